// Opens a page in a headless browser, does what a reader does, and prints as JSON what there is to see.
// node browser.mjs <url> <folder for screenshots> <title of a table> <column that names its rows> <column to sort it by>
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const [url, folder, table, key, column] = process.argv.slice(2);
const browser = await puppeteer.launch({
  args: chromium.args, executablePath: await chromium.executablePath(), headless: "shell",
  defaultViewport: {width: 1200, height: 900},
});
try {
  const page = await browser.newPage(), errors = [], requests = [];
  page.on("pageerror", error => errors.push(String(error)));
  page.on("console", message => ["error", "warn"].includes(message.type()) && errors.push(message.text()));
  page.on("request", request => /^(data|blob):/.test(request.url()) || requests.push(request.url()));
  await page.goto(url, {waitUntil: "load", timeout: 120_000});

  const section = await page.evaluateHandle(title =>
    [...document.querySelectorAll("section")].find(each => each.querySelector("h2").textContent === title), table);
  const names = () => section.evaluate((found, name) => {
    const place = [...found.querySelectorAll("thead th")].findIndex(each => each.textContent === name);
    return [...found.querySelectorAll("tbody tr")].map(row => row.cells[place].textContent);
  }, key);
  const sorted = [await names()];
  const button = await section.evaluateHandle((found, name) =>
    [...found.querySelectorAll("thead th button")].find(each => each.textContent === name), column);
  for (let press = 0; press < 2; press++) {
    await button.asElement().focus();
    await page.keyboard.press("Enter");
    sorted.push(await names());
  }
  const ariaSort = await button.evaluate(found => found.closest("th").ariaSort);
  await page.screenshot({path: `${folder}/light.png`});

  const downloads = await page.$$eval("a[download]", links =>
    Object.fromEntries(links.map(link => [link.download, atob(link.href.split(",")[1])])));

  const hovers = {};
  for (const plot of await page.$$(".plot")) {
    await plot.scrollIntoView();
    await page.waitForFunction(found => found.querySelector(".nsewdrag"), {timeout: 60_000}, plot);
    const point = await plot.$(".scatterlayer .point, .barlayer .point");
    const box = await (point ?? await plot.$(".nsewdrag")).boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2 - 1);
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForFunction(found => found.querySelector(".hoverlayer text"), {timeout: 20_000}, plot);
    const title = await plot.evaluate(found => found.closest(".picture, section").querySelector("h2").textContent);
    hovers[title] = await plot.evaluate(found => found.querySelector(".hoverlayer").textContent);
  }
  await page.emulateMediaFeatures([{name: "prefers-color-scheme", value: "dark"}]);
  await page.waitForFunction(() => getComputedStyle(document.querySelector(".gtitle, .xtick text")).fill === getComputedStyle(document.body).color);
  await page.screenshot({path: `${folder}/dark.png`});
  console.log(JSON.stringify({errors, requests, sorted, ariaSort, downloads, hovers}));
} finally {
  await browser.close();
}
