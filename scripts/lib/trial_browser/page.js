// What is shown: the address names a study, filters, or a trial; keys and links change the address.
"use strict";

(async () => {
  const { h, fill } = Dom;
  const list = document.getElementById("list");
  const notice = document.getElementById("notice");
  const help = document.getElementById("help");
  const lists = {};
  const ordered = {};
  let state = null;
  let shownRow = null;
  let wanted = null;
  let turn = 0;

  function say(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  if (typeof DecompressionStream === "undefined") {
    say("This browser cannot unpack the page's data (DecompressionStream). Take one of 2023 or later.");
    return;
  }
  const run = await Data.read("run");
  const studies = new Map(run.studies.map((about) => [about.name, new Data.Study(about)]));
  const tabs = document.getElementById("studies");

  function address(study, row) {
    const run_ = ["model_key", "replication", "variant"].map((name) => study[name].value(row));
    const parts = [study.name, study.index[study.place[row]], ...run_];
    return `#${parts.map(encodeURIComponent).join("/")}`;
  }

  const listAddress = (name) => lists[name] || `#${encodeURIComponent(name)}`;

  function drawTabs(current) {
    fill(tabs, [...studies.values()].map((study) =>
      h("a", { href: listAddress(study.name), "aria-current": study.name === current ? "page" : null },
        study.about.title, h("small", null, ` ${study.rows}`))));
  }

  async function showList(study, query) {
    const mine = turn;
    state = Filters.read(query);
    lists[study.name] = `#${encodeURIComponent(study.name)}${Filters.written(state)}`;
    const names = state.columns || study.about.shown;
    const columns = (await Promise.all(names.map(async (name) => ({ name, of: await study.column(name) }))))
      .filter((one) => one.of);
    const started = performance.now();
    const rows = await study.select(state);
    ordered[study.name] = rows;
    if (mine !== turn) return;
    const change = (next) => {
      const text = Filters.written({ ...state, ...next });
      history.replaceState(null, "", `#${encodeURIComponent(study.name)}${text}`);
      route();
    };
    document.getElementById("list-heading").textContent = study.about.title;
    const summary = (study.about.summary || "").split("`");
    fill(document.getElementById("list-summary"),
      summary.map((text, i) => (i % 2 ? h("code", null, text) : text)));
    Filters.show(study, state, change);
    const count = `${rows.length.toLocaleString("en")} of ${study.rows.toLocaleString("en")} answers`;
    document.getElementById("count").textContent =
      `${count} to ${study.about.trials.toLocaleString("en")} trials`;
    TrialView.article.hidden = true;
    list.hidden = false;
    Table.show({
      study,
      rows,
      columns,
      sort: state.sort,
      onOpen: (row) => {
        location.hash = address(study, row);
      },
      onSort: (column) => {
        const is = state.sort && state.sort.column === column;
        const next = is && state.sort.descending ? null : { column, descending: Boolean(is) };
        change({ sort: next });
      },
    });
    document.documentElement.dataset.ms = Math.round(performance.now() - started);
    document.title = `${study.about.title}: trial browser`;
    // So that the first filter or search need not wait for it.
    study.prepare();
    if (wanted) document.getElementById(wanted).focus();
    else if (shownRow !== null) Table.focus(shownRow);
    shownRow = null;
    wanted = null;
  }

  async function showTrial(study, parts) {
    const mine = turn;
    const [index, model, replication, variant] = parts;
    const place = study.places.get(Number(index));
    if (place === undefined || index === "") {
      say(`${study.about.title} has no trial ${index}.`);
      await showList(study, "");
      return;
    }
    const rows = study.rowsOfTrial(place);
    const row = rows.find((one) =>
      (model === undefined || study.model_key.value(one) === model) &&
      (replication === undefined || String(study.replication.value(one)) === replication) &&
      (variant === undefined || study.variant.value(one) === variant));
    if (row === undefined) say(`Trial ${index} has no answer of ${parts.slice(1).join(", ")}.`);
    const chosen = row === undefined ? rows[0] : row;
    if (!ordered[study.name]) ordered[study.name] = await study.select(Filters.read(""));
    const at = ordered[study.name].indexOf(chosen);
    const link = (one) => (one === undefined ? null : address(study, one));
    const [before, after] = [-1, 1].map((step) =>
      at < 0 ? undefined : ordered[study.name][at + step],
    );
    await TrialView.show(study, chosen, run.origins, {
      list: listAddress(study.name), row: link, before: link(before), after: link(after),
    });
    if (mine !== turn) return;
    list.hidden = true;
    TrialView.article.hidden = false;
    document.title = `Trial ${index}, ${study.about.title}: trial browser`;
    window.scrollTo(0, 0);
    document.getElementById("trial-heading").focus({ preventScroll: true });
    shownRow = chosen;
  }

  async function route() {
    turn += 1;
    say("");
    const text = location.hash.slice(1);
    const at = text.indexOf("?");
    const path = at < 0 ? text : text.slice(0, at);
    let parts;
    try {
      parts = path.split("/").map(decodeURIComponent);
    } catch {
      parts = [""];
    }
    const [name, ...rest] = parts;
    const study = studies.get(name) || studies.values().next().value;
    if (!study) {
      say("This run has no study.");
      return;
    }
    if (name && !studies.has(name)) say(`This run has no study ${name}.`);
    await study.open();
    drawTabs(study.name);
    if (studies.has(name) && rest.length) await showTrial(study, rest);
    else await showList(study, at < 0 ? "" : text.slice(at));
    const told = document.documentElement.dataset;
    told.opened ||= Math.round(performance.now());
    told.ready = "yes";
    document.dispatchEvent(new Event("shown"));
  }

  const showHelp = () => help.open || help.showModal();
  document.getElementById("help-button").addEventListener("click", showHelp);
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const writes = event.target.closest("input, select, textarea");
    if (writes) {
      if (event.key === "Escape") event.target.blur();
      if (event.key === "ArrowDown" && event.target.id === "search") {
        event.preventDefault();
        Table.focus();
      }
      return;
    }
    const within = !TrialView.article.hidden;
    if (event.key === "?") showHelp();
    else if (event.key === "/") {
      event.preventDefault();
      if (within) {
        wanted = "search";
        location.hash = document.getElementById("back").getAttribute("href");
      } else document.getElementById("search").focus();
    } else if (within && event.key === "Escape") {
      location.hash = document.getElementById("back").getAttribute("href");
    } else if (within && event.key === "ArrowLeft") follow("prev");
    else if (within && event.key === "ArrowRight") follow("next");
    else if (!within && event.key === "ArrowDown" && event.target === document.body) {
      event.preventDefault();
      Table.focus();
    }
  });

  function follow(rel) {
    const link = TrialView.article.querySelector(`a[rel="${rel}"]`);
    if (link) location.hash = link.getAttribute("href");
  }

  window.addEventListener("hashchange", () => route());
  await route();
})();
