// Opens a page in a headless browser as different readers do, and prints as JSON what each of them meets.
// node page_checks.mjs <url> <folder for screenshots and the PDF> [painted] [narrow] [wide] [paper] [light] [dark]
import {createRequire} from "node:module";
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const [url, folder, ...wanted] = process.argv.slice(2);
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const browser = await puppeteer.launch({args: chromium.args, executablePath: await chromium.executablePath(), headless: "shell"});

const opened = async (width, scheme) => {
  const page = await browser.newPage();
  await page.setBypassCSP(true);  // It would refuse the checker.
  await page.setViewport({width, height: 900});
  await page.emulateMediaFeatures([{name: "prefers-color-scheme", value: scheme}]);
  await page.goto(url, {waitUntil: "load", timeout: 120_000});
  return page;
};

// Which texts and figures are wider than the window, and which tables are wider than their place.
const width = async size => {
  const page = await opened(size, "light");
  const found = await page.evaluate(() => ({
    overflows: document.documentElement.scrollWidth > innerWidth,
    cut: [...document.querySelectorAll(".wide")].filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.ariaLabel),
    unreachable: [...document.querySelectorAll(".wide")].filter(each => each.tabIndex < 0).map(each => each.ariaLabel),
    last: Math.max(...[...document.querySelectorAll(".opening .plot")].map(each => each.getBoundingClientRect().bottom)),
  }));
  await page.screenshot({path: `${folder}/${size}.png`});
  await page.close();
  return found;
};

// What the page looks like when it goes to the printer; the reader's screen is dark.
const paper = async () => {
  const page = await opened(1400, "dark");
  await page.evaluate(() => addEventListener("beforeprint", () => {
    const heading = each => each.closest("section").querySelector("h2:last-of-type").textContent;
    const sheet = document.body.clientWidth;
    window.printed = {
      blank: [...document.querySelectorAll(".plot")].filter(each => !each.querySelector(".main-svg") ||
        !each.checkVisibility({contentVisibilityAuto: true})).map(heading),
      wide: [...document.querySelectorAll(".plot .main-svg, img")].filter(each => each.getBoundingClientRect().width > sheet).map(heading),
      cut: [...document.querySelectorAll("table")].filter(each => each.getBoundingClientRect().width > sheet + 1 ||
        each.parentElement.scrollHeight > each.parentElement.clientHeight + 1).map(heading),
      sheet,
    };
  }));
  await page.pdf({path: `${folder}/page.pdf`, format: "A4"});
  const printed = await page.evaluate(() => window.printed);
  const after = await page.evaluate(() => document.documentElement.className);
  await page.emulateMediaType("print");
  const colours = await page.evaluate(() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]);
  await page.close();
  return {...printed, after, colours};
};

// Violations of accessibility, with every figure drawn.
const accessibility = async scheme => {
  const page = await opened(1400, scheme);
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  await page.evaluate(() => document.querySelectorAll("details").forEach(each => each.open = true));
  await page.addScriptTag({path: axe});
  const {violations} = await page.evaluate(() => axe.run());
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const tick = await page.evaluate(() => getComputedStyle(document.querySelector(".plot .xtick text")).fill);
  const text = await page.evaluate(() => getComputedStyle(document.body).color);
  await page.close();
  return {violations: violations.map(each => `${each.impact} ${each.id}: ${each.nodes[0].html.slice(0, 200)}`), background, tick, text};
};

// Milliseconds until the first text is seen.
const painted = async () => {
  const page = await opened(1400, "light");
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length);
  const found = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  await page.close();
  return found;
};

const checks = {
  painted, paper, narrow: () => width(400), wide: () => width(1400), light: () => accessibility("light"), dark: () => accessibility("dark"),
};
try {
  const found = {};
  for (const each of wanted) found[each] = await checks[each]();
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
