// What the report's page does beyond showing: tables are searched, sorted (by sortable.js) and
// copied, figures enlarged, folded tables printed. Without it the page holds all the same.
"use strict";

(() => {
  const DASH = "\u2013";
  const NUMBER = /^[<>\u2264\u2265]?\s*([\u2212-]?)([\d,]*\.?\d+(?:e[+-]?\d+)?)/i;
  //: Rows from which a table has a search.
  const SEARCHED = 8;

  function make(tag, attributes, ...content) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(name, value);
      else made.setAttribute(name, value);
    }
    made.append(...content);
    return made;
  }

  /** The number that a cell begins with; null where it begins with none. */
  function leading(text) {
    const found = NUMBER.exec(text);
    if (!found) return null;
    const value = Number(found[2].replaceAll(",", "")) * (found[1] ? -1 : 1);
    // "< .001" comes before .001.
    return text.startsWith("<") ? value - 1e-12 : value;
  }

  const heading = (cell) => cell.textContent.trim();
  const rows = (table) => [...table.tBodies].flatMap((body) => [...body.rows]);

  /** Give the cells of a column their place in its order: by number where all begin with one. */
  function order(table, column) {
    const cells = rows(table).map((row) => row.cells[column]);
    const texts = cells.map((cell) => cell.textContent.trim());
    const numbers = texts.map(leading);
    const numeric = texts.every((text, i) => text === DASH || text === "" || numbers[i] !== null);
    cells.forEach((cell, i) => {
      if (texts[i] === DASH || texts[i] === "") cell.dataset.sort = "";
      else if (numeric) cell.dataset.sort = String(numbers[i]);
      else cell.dataset.sort = texts[i].toLowerCase();
    });
  }

  /** What a spreadsheet reads: plain minus signs and spaces, nothing for a dash, no cell that is a formula. */
  function plain(text) {
    if (text === DASH) return "";
    const said = text.replace(/\u00a0/g, " ").replace(/\u2212(?=[\d.])/g, "-");
    return /^[=+@\t\r]/.test(said) || (/^-/.test(said) && !/^-[\d.]/.test(said)) ? `'${said}` : said;
  }

  function cells(table) {
    const head = [...table.tHead.rows[0].cells].map(heading);
    const body = rows(table).filter((row) => !row.hidden);
    return [head, ...body.map((row) => [...row.cells].map((cell) => cell.textContent.trim()))].map(
      (row) => row.map(plain),
    );
  }

  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => cells(table).map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
  const tabbed = (table) => cells(table).map((row) => row.join("\t")).join("\n");

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = make("textarea", {});
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  function save(name, text) {
    const link = make("a", {
      href: URL.createObjectURL(new Blob([`\ufeff${text}`], { type: "text/csv" })),
      download: name,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function search(table, text, status) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const all = rows(table);
    for (const row of all) {
      const said = row.textContent.replace(/\u00a0/g, " ").toLowerCase();
      row.hidden = !words.every((word) => said.includes(word));
    }
    const left = all.filter((row) => !row.hidden).length;
    status.textContent = words.length > 0 ? `${left} of ${all.length} rows` : "";
  }

  function enhance(table) {
    const name = table.id || "table";
    const heads = [...table.tHead.rows[0].cells];
    const labels = heads.map(heading);
    const status = make("span", { role: "status" });
    table.classList.add("sortable", "asc", "n-last");
    heads.forEach((head, i) => {
      order(table, i);
      head.replaceChildren(make("button", { type: "button" }, ...head.childNodes));
    });
    for (const row of rows(table)) {
      [...row.cells].forEach((cell, i) => {
        cell.dataset.label = labels[i];
        cell.classList.toggle("none", cell.textContent === DASH);
      });
    }
    table.addEventListener("sort-end", () => {
      const head = heads.find((one) => one.hasAttribute("aria-sort"));
      status.textContent = `Sorted by ${heading(head)}, ${head.getAttribute("aria-sort")}`;
    });
    const choice = make(
      "select",
      { change: () => choice.value && heads[Number(choice.value)].firstChild.click() },
      make("option", { value: "" }, "as it is"),
      ...labels.map((label, i) => make("option", { value: i }, label)),
    );
    const many = rows(table).length >= SEARCHED;
    const field = make("input", { type: "search", input: () => search(table, field.value, status) });
    const tools = make(
      "div",
      { class: "tools", role: "group", "aria-label": `Tools of ${name.replace("-", " ")}` },
      ...(many ? [make("label", {}, "Search ", field)] : []),
      ...(rows(table).length > 1 ? [make("label", { class: "sort" }, "Sort by ", choice)] : []),
      make("button", {
        type: "button",
        click: async () => {
          status.textContent = (await copy(tabbed(table))) ? "Copied" : "This browser copies nothing";
        },
      }, "Copy"),
      make("button", { type: "button", click: () => save(`${name}.csv`, csv(table)) }, "CSV"),
      status,
    );
    table.closest(".wide").before(tools);
  }

  const zoom = document.getElementById("zoom");
  for (const link of document.querySelectorAll("a.picture")) {
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      const shown = link.querySelector("img");
      const large = make("img", { src: shown.src, alt: shown.alt });
      const width = Math.max(innerWidth * 0.93, 1.5 * shown.naturalWidth);
      large.width = Math.round(width);
      zoom.lastElementChild.replaceChildren(large);
      zoom.setAttribute("aria-label", shown.alt.slice(0, 100));
      zoom.showModal();
    });
  }

  /** Open the folded tables that hold what the address names, or all of them. */
  function unfold(all) {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (const folded of document.querySelectorAll("main details")) {
      if (all && !folded.open) {
        folded.open = true;
        folded.dataset.printed = "";
      } else if (!all && target && folded.contains(target)) {
        folded.open = true;
        target.scrollIntoView();
      }
    }
  }
  addEventListener("hashchange", () => unfold(false));
  addEventListener("beforeprint", () => unfold(true));
  addEventListener("afterprint", () => {
    for (const folded of document.querySelectorAll("details[data-printed]")) {
      folded.open = false;
      delete folded.dataset.printed;
    }
  });

  document.querySelectorAll("main table").forEach(enhance);
  document.documentElement.classList.add("ready");
  document.documentElement.dataset.ready = "yes";
  unfold(false);
})();
