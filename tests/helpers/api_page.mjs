// Opens the page of a server's interface, sends a file by its form, and prints as JSON what there is to see.
// node api_page.mjs <url> <file to send> <token> <path of a screenshot>
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const [url, file, token, picture] = process.argv.slice(2);
const browser = await puppeteer.launch({
  args: chromium.args, executablePath: await chromium.executablePath(), headless: "shell",
  defaultViewport: {width: 1000, height: 1200},
});
try {
  const page = await browser.newPage(), errors = [], requests = [];
  page.on("pageerror", error => errors.push(String(error)));
  page.on("console", message => ["error", "warn"].includes(message.type()) && errors.push(message.text()));
  page.on("request", request => /^(data|blob):/.test(request.url()) || requests.push(request.url()));
  await page.goto(url, {waitUntil: "load", timeout: 120_000});
  await (await page.$("#file")).uploadFile(file);
  await page.type("#token", token);
  await page.click("button");
  await page.waitForFunction(() => /^\d+\n/.test(document.getElementById("answer").textContent), {timeout: 60_000});
  const answer = await page.$eval("#answer", found => found.textContent);
  const headings = await page.$$eval("h2", found => found.map(each => each.textContent));
  await page.screenshot({path: picture});
  console.log(JSON.stringify({errors, requests, answer, headings}));
} finally {
  await browser.close();
}
