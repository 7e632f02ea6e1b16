// One trial: all answers to it, all distributions side by side, and one answer in full.
"use strict";

const TrialView = (() => {
  const { h, fill, shown, named, percent } = Dom;
  const article = document.getElementById("trial");
  //: Distributions beyond which only those of the chosen replication and variant are shown at first.
  const MOST_AT_ONCE = 24;

  const runOf = (study, row) => ({
    model: study.model_key.value(row),
    replication: study.replication.value(row),
    variant: study.variant.value(row),
  });
  const said = ({ model, replication, variant }) => `${model}, replication ${replication}, ${variant}`;

  function facts(pairs) {
    return h("dl", { class: "facts" }, pairs.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
  }

  function flagged(text) {
    return text ? text.split(";").map((flag) => h("span", { class: "flag" }, flag)) : "–";
  }

  /** All answers to the trial, with what was read of them. */
  function answers(study, rows, chosen, fields, link) {
    const has = study.model_response !== null;
    return h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "All answers to this trial" },
      h(
        "table",
        { class: "answers" },
        h("thead", null, h("tr", null, ["Model", "Replication", "Variant", ...(has ? ["Answer"] : []),
          ...fields.map(({ name }) => name), "Flags"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", null, rows.map((row) => {
          const run = runOf(study, row);
          const value = has ? shown(study.model_response.value(row)) : "";
          return h(
            "tr",
            { class: row === chosen ? "chosen" : null, "aria-current": row === chosen ? "true" : null },
            h("th", { scope: "row" }, h("a", { href: link(row), title: `Read the answer of ${said(run)}` }, run.model)),
            h("td", null, run.replication),
            h("td", null, run.variant),
            has && h("td", { class: "said" }, String(value).slice(0, 240), String(value).length > 240 && " …"),
            fields.map(({ of }) => h("td", { class: of.isNumber ? "number" : null }, shown(of.value(row)))),
            h("td", null, flagged(study.quality_flags.value(row))),
          );
        })),
      ),
    );
  }

  /** A query's distributions: a row each, a bar for every option. */
  function bars(query, options, lines) {
    const count = options.length;
    const table = h(
      "table",
      { class: count > 6 ? "bars many" : "bars" },
      h("caption", null, query.name, query.auxiliary && " (asked beside the trial's own)"),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Per cent"),
        options.map((option) => h("th", { scope: "col" }, option)))),
      h("tbody", null, lines.map(({ label, kind, shares }) =>
        h("tr", { class: kind }, h("th", { scope: "row" }, label),
          shares
            ? shares.map((p) => {
                const bar = h("span", { class: "bar", "aria-hidden": "true" });
                bar.style.height = `${Math.max(0, Math.min(1, p || 0)) * 100}%`;
                return h("td", { title: p === null ? "no number" : `${p}` },
                  h("span", { class: "frame" }, bar), h("span", null, p === null ? "–" : percent(p)));
              })
            : h("td", { colspan: count, class: "none" }, "no distribution: see the flags")),
      )),
    );
    table.style.setProperty("--options", count);
    return table;
  }

  async function distributions(study, place, rows, chosen, everything) {
    const sources = await Promise.all(
      study.about.sources.filter((one) => !one.why)
        .map(async (one) => ({ ...one, of: await study.source(one.name) })),
    );
    const own = runOf(study, chosen);
    const alike = rows.filter((row) => {
      const run = runOf(study, row);
      return run.replication === own.replication && run.variant === own.variant;
    });
    const few = rows.length <= MOST_AT_ONCE || everything.all;
    const used = few ? rows : alike;
    const parts = [];
    for (const query of study.about.queries) {
      const of = await study.distributions(query);
      const options = query.options ||
        query.optionColumns.map((name) => shown(study.trials.get(name).value(place)));
      const found = used.map((row) => ({ row, shares: of && of(row) }));
      const theirs = sources
        .map((one) => ({ ...one, shares: one.of(place)[query.name] }))
        .filter((one) => one.shares);
      if (found.every((one) => !one.shares) && !theirs.length) continue;
      parts.push(bars(query, options, [
        ...theirs.map((one) => ({
          label: `${one.name} (${one.people ? "people" : "cognitive model"})`,
          kind: one.people ? "people" : "theory",
          shares: one.shares,
        })),
        ...found.map(({ row, shares }) => ({
          label: said(runOf(study, row)),
          kind: row === chosen ? "chosen" : null,
          shares,
        })),
      ]));
    }
    const absent = study.about.sources.filter((one) => one.why);
    return [
      !few && h("p", null, `Of replication ${own.replication} and ${own.variant}: ${alike.length} of ${rows.length}. `,
        h("button", { type: "button", click: everything.show }, `Show all ${rows.length}`)),
      parts.length ? h("div", { class: "queries" }, parts) : h("p", null, "No distributions were measured."),
      absent.map((one) => h("p", { class: "small" }, `${one.name}: ${one.why}.`)),
    ];
  }

  const chat = (messages) =>
    messages.map(([role, text]) => [h("h4", null, role), h("pre", null, text)]);

  function folded(title, ...children) {
    return h("details", null, h("summary", null, title), children);
  }

  /** A model's answer in full: prompt, reasoning, answer, what was read of it, how it was asked. */
  async function whole(study, row) {
    const run = runOf(study, row);
    const [prompt, reasoning, turns, traces] = await Promise.all(
      ["prompt", "reasoning", "turns", "traces"].map((kind) => study.reference(kind, row)),
    );
    const asked = study.about.experiments.includes("exp1");
    const response = study.model_response ? study.model_response.value(row) : null;
    const parts = [h("h3", { id: "in-full" }, `In full: ${said(run)}`)];
    if (asked) {
      if (turns) {
        for (const [i, turn] of turns.entries()) {
          parts.push(folded(`Prompt of turn ${i + 1}: ${turn.name}`, chat(turn.prompt)));
          if (turn.reasoning) parts.push(folded("Reasoning", h("pre", null, turn.reasoning)));
          parts.push(h("pre", { class: "answer" }, shown(turn.response)));
        }
      } else if (prompt) {
        parts.push(h("h4", null, "Prompt of experiment 1"), h("div", { class: "prompt" }, chat(prompt)));
      }
      if (reasoning && !turns) {
        parts.push(h("details", { open: true }, h("summary", null, `Reasoning (${reasoning.length} characters)`),
          h("pre", null, reasoning)));
      }
      parts.push(h("h4", null, "Raw answer"),
        response === null ? h("p", null, "No answer.") : h("pre", { class: "answer" }, response));
    }
    const all = [];
    for (const { name, said } of study.described.values()) {
      if (!said || ["model_key", "replication", "variant", "trial_index", "model_response"].includes(name)) continue;
      const value = (await study.column(name)).value(row);
      all.push([named(name), name === "quality_flags" ? flagged(value) : shown(value) === "" ? "–" : value]);
    }
    parts.push(h("h4", null, "What was read of it, and flags"), facts(all));
    const prompts = [];
    for (const query of study.about.queries) {
      const messages = await study.reference(`query:${query.name}`, row);
      if (messages) prompts.push(folded(query.name, chat(messages)));
    }
    if (prompts.length) parts.push(folded(`Prompts of experiment 2 (${prompts.length})`, prompts));
    if (traces) {
      parts.push(folded(`Reasoning before experiment 2's measurements (${traces.length} traces)`,
        traces.map((one) =>
          folded(`${one.query}, trace ${one.trace + 1}: ${one.end}, ${one.tokens} tokens`,
            h("pre", null, one.text)))));
    }
    const every = h("details", null, h("summary", null, `All ${study.described.size} columns of this row`));
    every.addEventListener("toggle", async () => {
      if (every.children.length > 1) return;
      const found = [];
      for (const name of study.described.keys()) {
        const value = (await study.column(name)).value(row);
        if (value !== null && value !== "") found.push([name, value]);
      }
      every.append(facts(found));
    });
    parts.push(every);
    return parts;
  }

  /** Show a row and its trial. `links`: to the list, to rows, to the rows before and after. */
  async function show(study, row, origins, links) {
    const place = study.place[row];
    const rows = study.rowsOfTrial(place);
    const index = study.index[place];
    const key = study.keys.map((name) => shown(study.trials.get(name).value(place))).join(" · ");
    const fields = [];
    for (const name of study.about.shown) {
      const one = study.described.get(name);
      if (!one || ["model_key", "replication", "variant", "model_response", "quality_flags", "trial_index"].includes(name)) continue;
      fields.push({ name, of: await study.column(name) });
    }
    const side = h("div", null);
    const everything = { all: false };
    everything.show = async () => {
      everything.all = true;
      fill(side, await distributions(study, place, rows, row, everything));
    };
    fill(side, await distributions(study, place, rows, row, everything));
    const run = runOf(study, row);
    const notes = [...new Set(rows.map((one) => runOf(study, one).model))]
      .filter((model) => origins[model])
      .map((model) => h("p", { class: "small" }, `${model}: ${origins[model]}`));
    const full = await whole(study, row);
    fill(
      article,
      h("nav", { "aria-label": "Trials", class: "steps" },
        h("a", { href: links.list, id: "back" }, "← Table"),
        links.before ? h("a", { href: links.before, rel: "prev" }, "‹ Previous row") : h("span", null, "‹ Previous row"),
        links.after ? h("a", { href: links.after, rel: "next" }, "Next row ›") : h("span", null, "Next row ›")),
      h("h2", { tabindex: -1, id: "trial-heading" }, `${study.about.title}: trial ${index}`),
      h("p", { class: "key" }, key),
      facts(study.trialNames.filter((name) => !study.keys.includes(name))
        .map((name) => [name, shown(study.trials.get(name).value(place)) === "" ? "–" : study.trials.get(name).value(place)])),
      full,
      h("h3", null, `Answers of all models (${rows.length})`),
      answers(study, rows, row, fields, links.row),
      notes,
      h("h3", null, "Distributions side by side"),
      h("p", { class: "small" }, `Marked: ${said(run)}.`),
      side,
    );
    return index;
  }

  return { show, article };
})();
