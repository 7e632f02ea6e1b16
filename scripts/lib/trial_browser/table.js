// The table of answers: only the rows in sight are in the page (TanStack Virtual says which).
"use strict";

const Table = (() => {
  const { h, fill, shown, named } = Dom;
  const MOST_PRINTED = 5000;
  const narrow = window.matchMedia("(max-width: 40rem)");
  const scroller = document.getElementById("scroller");
  const table = document.getElementById("table");
  const head = h("thead", { role: "rowgroup" });
  const body = h("tbody", { role: "rowgroup" });
  table.append(head, body);

  let study = null;
  let rows = new Uint32Array(0);
  let columns = [];
  let sort = null;
  let active = 0;
  let onOpen = () => {};
  let onSort = () => {};
  let printing = false;
  //: Whether the active row is to have the focus once it is drawn.
  let focusing = false;

  const { Virtualizer, elementScroll, observeElementOffset, observeElementRect } = TanStackVirtual;
  const height = () => {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    return Math.round((narrow.matches ? 7.5 : 2.25) * rem);
  };
  const options = () => ({
    count: rows.length,
    getScrollElement: () => scroller,
    estimateSize: height,
    overscan: 12,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => draw(),
  });
  const virtual = new Virtualizer(options());
  virtual._didMount();

  function width(column) {
    if (column.name === "model_response") return "minmax(14rem, 3fr)";
    if (column.name === "quality_flags") return "minmax(9rem, 1.5fr)";
    if (column.name === "model_key") return "minmax(7rem, 1fr)";
    // As wide as its name: columns of a distribution differ in the last letters.
    const least = Math.min(16, Math.max(5, named(column.name).length * 0.55 + 1.2)).toFixed(1);
    return `minmax(${least}rem, ${column.of.isNumber ? 0.6 : 1}fr)`;
  }

  function header() {
    table.style.setProperty("--columns", columns.map(width).join(" "));
    table.setAttribute("aria-rowcount", rows.length + 1);
    table.setAttribute("aria-colcount", columns.length);
    fill(
      head,
      h(
        "tr",
        { role: "row", "aria-rowindex": 1 },
        columns.map(({ name, of }) => {
          const is = sort && sort.column === name;
          const direction = is && sort.descending ? "descending" : "ascending";
          return h(
            "th",
            {
              role: "columnheader",
              scope: "col",
              class: of.isNumber ? "number" : null,
              "aria-sort": is ? direction : "none",
            },
            h(
              "button",
              { type: "button", title: `Sort by ${name}`, click: () => onSort(name) },
              named(name),
              is && h("span", { "aria-hidden": "true" }, sort.descending ? " ▼" : " ▲"),
            ),
          );
        }),
      ),
    );
  }

  function card(row) {
    const of = (name) => shown(study[name].value(row));
    const rest = columns
      .filter(({ name }) => !FIRST.has(name))
      .map(({ name, of: column }) => {
        const value = shown(column.value(row));
        return `${named(name)}: ${value === "" ? "–" : value}`;
      });
    return h(
      "td",
      { role: "gridcell", class: "card" },
      h("strong", null, `Trial ${study.index[study.place[row]]} · ${of("model_key")}`),
      h("span", { class: "run" }, `replication ${of("replication")}, ${of("variant")}`),
      h("span", { class: "answer" }, of("model_response") || "–"),
      h("span", { class: "rest" }, rest.join(" · ")),
    );
  }
  const FIRST = new Set(["trial_index", "model_key", "replication", "variant", "model_response"]);

  function drawn(place, top) {
    const row = rows[place];
    const element = h(
      "tr",
      {
        role: "row",
        "aria-rowindex": place + 2,
        tabindex: place === active ? 0 : -1,
        "data-place": place,
        class: place % 2 ? "odd" : null,
        click: () => open(place),
      },
      narrow.matches && !printing
        ? card(row)
        : columns.map(({ name, of }) => {
            const value = shown(of.value(row));
            const text = String(value);
            return h(
              "td",
              {
                role: "gridcell",
                class: of.isNumber ? "number" : name === "model_response" ? "said" : null,
                title: text.length > 12 ? Dom.visible(text.slice(0, 600)) : null,
              },
              name === "quality_flags" && text
                ? text.split(";").map((flag) => h("span", { class: "flag" }, flag))
                : text.slice(0, 400),
            );
          }),
    );
    if (top !== null) element.style.transform = `translateY(${top}px)`;
    return element;
  }

  function draw() {
    if (printing) return;
    focusing ||= body.contains(document.activeElement);
    body.style.height = `${virtual.getTotalSize()}px`;
    fill(body, virtual.getVirtualItems().map((item) => drawn(item.index, item.start)));
    if (focusing) focus();
  }

  function focus() {
    const element = body.querySelector(`[data-place="${active}"]`);
    if (!element) return;
    focusing = false;
    element.focus({ preventScroll: true });
  }

  function update() {
    virtual.setOptions(options());
    virtual._willUpdate();
    if (table.classList.contains("cards") !== narrow.matches) virtual.measure();
    table.classList.toggle("cards", narrow.matches);
    header();
    draw();
  }

  function move(to) {
    if (!rows.length) return;
    active = Math.max(0, Math.min(rows.length - 1, to));
    virtual.scrollToIndex(active, { align: "auto" });
    focusing = true;
    draw();
  }

  function open(place) {
    active = place;
    onOpen(rows[place]);
  }

  table.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(scroller.clientHeight / height()) - 2);
    const steps = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: rows.length - 1,
    };
    if (event.target.closest("thead") && event.key !== "ArrowDown") return;
    if (event.key in steps) {
      move(event.target.closest("thead") ? active : steps[event.key]);
      event.preventDefault();
    } else if (event.key === "Enter" && event.target.closest("tbody")) {
      open(active);
    }
  });
  narrow.addEventListener("change", () => study && update());
  window.addEventListener("beforeprint", () => {
    if (!study || document.getElementById("list").hidden) return;
    printing = true;
    const many = rows.length > MOST_PRINTED;
    document.getElementById("print-note").textContent = many
      ? `Printed: the first ${MOST_PRINTED} of ${rows.length} rows. Filter for the others.`
      : "";
    body.style.height = "auto";
    fill(body, Array.from(rows.slice(0, MOST_PRINTED), (_, place) => drawn(place, null)));
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    if (study) update();
  });

  return {
    /** Show rows of a study; the columns are {name, of}. */
    show(next) {
      const same = study === next.study && rows === next.rows;
      ({ study, rows, columns, sort, onOpen, onSort } = next);
      if (!same) {
        active = 0;
        scroller.scrollTop = 0;
      }
      update();
    },
    /** Go to a row, if it is in the table, or to the one that was gone to last. */
    focus(row) {
      const place = row === undefined ? -1 : rows.indexOf(row);
      move(place < 0 ? active : place);
    },
  };
})();
