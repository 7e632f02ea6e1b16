// Search, filters, order and columns of the table, as controls and as an address.
"use strict";

const Filters = (() => {
  const { h, fill, named, shown } = Dom;
  const form = document.getElementById("filters");
  const chips = document.getElementById("chips");
  const OPERATORS = {
    is: "is",
    contains: "contains",
    has: "has",
    min: "at least",
    max: "at most",
    filled: "is not empty",
    empty: "is empty",
  };
  const WITHOUT_VALUE = new Set(["filled", "empty"]);
  //: Values beyond which a column has no list to choose from.
  const MOST_CHOICES = 300;
  const QUICK = ["model_key", "replication", "variant"];
  let typing = 0;

  /** The state that an address names, such as `?q=cake&f=quality_flags~has~exp1_unparsed`. */
  function read(query) {
    const found = new URLSearchParams(query);
    const sorted = found.get("sort");
    return {
      q: found.get("q") || "",
      filters: found
        .getAll("f")
        .map((one) => one.split("~"))
        .filter(([column, op]) => column && op in OPERATORS)
        .map(([column, op, ...value]) => ({ column, op, value: value.join("~") })),
      sort: sorted
        ? { column: sorted.replace(/:desc$/, ""), descending: sorted.endsWith(":desc") }
        : null,
      columns: found.has("columns") ? found.get("columns").split(",") : null,
    };
  }

  function written({ q, filters, sort, columns }) {
    const found = new URLSearchParams();
    if (q) found.set("q", q);
    for (const { column, op, value } of filters) found.append("f", [column, op, value].join("~"));
    if (sort) found.set("sort", `${sort.column}${sort.descending ? ":desc" : ""}`);
    if (columns) found.set("columns", columns.join(","));
    const text = found.toString();
    return text ? `?${text}` : "";
  }

  function distinct(column) {
    const found = [...new Set(column.values.filter((one) => one !== null && one !== ""))];
    return found.sort((a, b) => (a < b ? -1 : 1));
  }

  function choice(label, choices, chosen, change) {
    return h(
      "label",
      null,
      label,
      h(
        "select",
        { change: (event) => change(event.target.value) },
        h("option", { value: "" }, "all"),
        choices.map(([value, text]) =>
          h("option", { value, selected: String(value) === chosen }, text),
        ),
      ),
    );
  }

  /** Show the controls of a study; `change` is called with what of the state is new. */
  function show(study, state, change) {
    const replaced = (column, op, value) => [
      ...state.filters.filter((one) => !(one.column === column && one.op === op)),
      ...(value ? [{ column, op, value }] : []),
    ];
    const chosen = (column, op) =>
      (state.filters.find((one) => one.column === column && one.op === op) || {}).value;
    const search = h("input", {
      type: "search",
      id: "search",
      value: state.q,
      placeholder: "Words or \"a phrase\"",
      input: (event) => {
        window.clearTimeout(typing);
        typing = window.setTimeout(() => change({ q: event.target.value }), 120);
      },
    });
    const kept = document.activeElement && document.activeElement.id === "search";
    const caret = kept ? document.activeElement.selectionStart : 0;
    const text = kept ? document.activeElement.value : null;
    const opened = new Set([...form.querySelectorAll("details[open]")].map((one) => one.id));
    const flagged = study.flags();
    fill(
      form,
      h("label", { class: "search" }, "Search ", search),
      QUICK.map((name) => {
        const values = distinct(study[name]);
        if (values.length < 2) return null;
        const choices = values.map((value) => [value, value]);
        return choice(named(name), choices, chosen(name, "is"), (value) =>
          change({ filters: replaced(name, "is", value) }),
        );
      }),
      flagged.length > 0 &&
        choice(
          "Flag",
          flagged.map(([flag, count]) => [flag, `${flag} (${count})`]),
          chosen("quality_flags", "has"),
          (value) => change({ filters: replaced("quality_flags", "has", value) }),
        ),
      more(study, state, change, opened.has("more")),
      columns(study, state, change, opened.has("columns")),
    );
    if (kept) {
      search.value = text;
      search.focus();
      search.setSelectionRange(caret, caret);
    }
    active(state, change);
  }

  function more(study, state, change, open) {
    const names = ["trial_index", ...study.names.filter((name) => name !== "trial_index")];
    const list = h("datalist", { id: "values" });
    const value = h("input", { id: "filter-value", list: "values", "aria-label": "Value" });
    const op = h("select", { "aria-label": "Condition" });
    const column = h(
      "select",
      { "aria-label": "Column" },
      names.map((name) => h("option", { value: name }, named(name))),
    );
    async function chosen() {
      const of = await study.column(column.value);
      const allowed = of.isNumber
        ? ["is", "min", "max", "filled", "empty"]
        : ["contains", "is", "has", "filled", "empty"];
      fill(op, allowed.map((one) => h("option", { value: one }, OPERATORS[one])));
      value.hidden = false;
      const values = distinct(of);
      fill(list, values.length <= MOST_CHOICES && values.map((one) => h("option", { value: one })));
    }
    column.addEventListener("change", chosen);
    op.addEventListener("change", () => {
      value.hidden = WITHOUT_VALUE.has(op.value);
    });
    chosen();
    const add = () => {
      const wanted = WITHOUT_VALUE.has(op.value) ? "" : value.value.trim();
      if (!wanted && !WITHOUT_VALUE.has(op.value)) {
        value.focus();
        return;
      }
      change({
        filters: [...state.filters, { column: column.value, op: op.value, value: wanted }],
      });
    };
    value.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        add();
      }
    });
    const sortBy = h(
      "select",
      {
        change: (event) => {
          const name = event.target.value;
          change({ sort: name ? { column: name, descending: false } : null });
        },
      },
      h("option", { value: "" }, "order of the files"),
      names.map((name) =>
        h("option", { value: name, selected: state.sort && state.sort.column === name }, named(name)),
      ),
    );
    const down = h("input", {
      type: "checkbox",
      checked: Boolean(state.sort && state.sort.descending),
      change: (event) =>
        state.sort && change({ sort: { ...state.sort, descending: event.target.checked } }),
    });
    return h(
      "details",
      { id: "more", open },
      h("summary", null, "Filter by any column, sort"),
      h(
        "div",
        { class: "panel" },
        h("fieldset", null, h("legend", null, "Filter"), column, op, value, list,
          h("button", { type: "button", click: add }, "Add")),
        h("fieldset", null, h("legend", null, "Sort"),
          h("label", null, "by ", sortBy), h("label", null, down, " descending")),
      ),
    );
  }

  function columns(study, state, change, open) {
    const now = state.columns || study.about.shown;
    const names = ["trial_index", ...study.names.filter((name) => name !== "trial_index")];
    return h(
      "details",
      { id: "columns", open },
      h("summary", null, `Columns (${now.length} of ${names.length})`),
      h(
        "div",
        { class: "panel columns" },
        names.map((name) =>
          h(
            "label",
            null,
            h("input", {
              type: "checkbox",
              "data-column": name,
              checked: now.includes(name),
              change: (event) =>
                change({
                  columns: event.target.checked
                    ? [...now, name]
                    : now.filter((one) => one !== name),
                }),
            }),
            ` ${named(name)}`,
          ),
        ),
        h("button", { type: "button", click: () => change({ columns: null }) }, "Reset"),
      ),
    );
  }

  /** The filters that are on, each with a button that takes it off. */
  function active(state, change) {
    fill(
      chips,
      state.filters.map((one) =>
        h(
          "button",
          {
            type: "button",
            title: "Remove this filter",
            click: () => change({ filters: state.filters.filter((other) => other !== one) }),
          },
          `${named(one.column)} ${OPERATORS[one.op]} ${shown(one.value)} `,
          h("span", { "aria-hidden": "true" }, "×"),
        ),
      ),
      (state.filters.length > 0 || state.q) &&
        h("button", { type: "button", click: () => {
          document.getElementById("search").value = "";
          change({ filters: [], q: "" });
        } }, "Clear all"),
    );
  }

  return { read, written, show };
})();
