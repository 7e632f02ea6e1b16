// The page's data: blocks that are unpacked when they are needed, columns, search, filters, order.
"use strict";

const Data = (() => {
  const packed = new Map();
  for (const block of document.querySelectorAll("script[data-block]")) {
    packed.set(block.dataset.block, block);
  }
  const unpacked = new Map();

  async function unpack(block) {
    const text = atob(block.textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    block.remove();
    return JSON.parse(await new Response(stream).text());
  }

  /** A block's value; each is unpacked once. */
  function read(name) {
    if (!unpacked.has(name)) unpacked.set(name, unpack(packed.get(name)));
    return unpacked.get(name);
  }

  /** Values and, where each stands for many rows, their place for every row. */
  function column({ v, d, c }, isNumber) {
    const codes = c ? Uint32Array.from(c) : null;
    const values = v || d;
    return {
      isNumber,
      values,
      code: codes ? (row) => codes[row] : (row) => row,
      value: codes ? (row) => values[codes[row]] : (row) => values[row],
    };
  }

  /** A column's values in lower case, to search in; made once. */
  function lower(of) {
    of.lower ||= of.values.map((value) => String(value ?? "").toLowerCase());
    return of.lower;
  }

  const idle = () => new Promise((go) => (window.requestIdleCallback || window.setTimeout)(go));

  class Study {
    constructor(about) {
      this.about = about;
      this.name = about.name;
      this.rows = about.rows;
      this.described = new Map(about.columns.map((one) => [one.name, one]));
      this.trialNames = about.trialColumns.map((one) => one.name).filter((n) => n !== "trial_index");
      this.keys = about.trialColumns.filter((one) => one.key).map((one) => one.name);
      this.known = new Map();
    }

    /** What every view needs: trials, and the columns of runs and answers. */
    async open() {
      if (this.place) return this;
      const block = await read(`${this.name}/trials`);
      this.trials = new Map(
        this.about.trialColumns.map((one) => [one.name, column(block[one.name], one.number)]),
      );
      this.index = Array.from({ length: this.about.trials }, (_, i) =>
        this.trials.get("trial_index").value(i),
      );
      const places = new Map(this.index.map((index, place) => [index, place]));
      const rows = await this.column("trial_index");
      this.place = Uint32Array.from({ length: this.rows }, (_, row) => places.get(rows.value(row)));
      this.places = places;
      for (const name of ["model_key", "replication", "variant", "model_response", "quality_flags"]) {
        this[name] = await this.column(name);
      }
      return this;
    }

    get names() {
      return [...this.trialNames, ...this.described.keys()];
    }

    /** A column over all rows; null for a name that the study does not have. */
    column(name) {
      if (!this.known.has(name)) this.known.set(name, this.unpackedColumn(name));
      return this.known.get(name);
    }

    async unpackedColumn(name) {
      const own = this.described.get(name);
      if (own) return column(await read(`${this.name}/column:${name}`), own.number);
      if (!this.trials || !this.trials.has(name)) return null;
      const of = this.trials.get(name);
      return {
        isNumber: of.isNumber,
        values: of.values,
        code: (row) => of.code(this.place[row]),
        value: (row) => of.value(this.place[row]),
      };
    }

    /** A text by its number. */
    async text(number) {
      const starts = this.about.texts;
      let block = starts.length - 1;
      while (starts[block] > number) block -= 1;
      return (await read(`${this.name}/texts/${block}`))[number - starts[block]];
    }

    /** A row's text of a kind, such as `prompt`; null where there is none. */
    async reference(kind, row) {
      const block = `${this.name}/reference:${kind}`;
      if (!packed.has(block)) return null;
      const number = column(await read(block), true).value(row);
      return number === null || number === undefined ? null : this.text(number);
    }

    /** A query's distributions by row, in the order of its options; null where there are none. */
    async distributions(query) {
      if (!query.columns.some((name) => this.described.has(name))) return null;
      const columns = await Promise.all(query.columns.map((name) => this.column(name)));
      return (row) => {
        const found = columns.map((one) => (one ? one.value(row) : null));
        return found.every((p) => p === null) ? null : found;
      };
    }

    /** By trial what people or a model of people answer: {query: probabilities}. */
    async source(name) {
      const { d, c } = await read(`${this.name}/source:${name}`);
      return (place) => d[c[place]];
    }

    rowsOfTrial(place) {
      const found = [];
      for (let row = 0; row < this.rows; row += 1) if (this.place[row] === place) found.push(row);
      return found;
    }

    /** How many rows have each flag. */
    flags() {
      if (!this.flagged) {
        const column = this.quality_flags;
        const rows = new Uint32Array(column.values.length);
        for (let row = 0; row < this.rows; row += 1) rows[column.code(row)] += 1;
        const counts = new Map();
        column.values.forEach((text, place) => {
          for (const flag of text ? text.split(";") : []) {
            counts.set(flag, (counts.get(flag) || 0) + rows[place]);
          }
        });
        this.flagged = [...counts].sort();
      }
      return this.flagged;
    }

    /** Unpack all columns, one after the other and whenever the page has nothing else to do. */
    async prepare() {
      if (this.preparing) return;
      this.preparing = true;
      for (const name of this.described.keys()) {
        await idle();
        const found = await this.column(name);
        if (this.described.get(name).said) lower(found);
      }
    }

    /** Rows with a word, in what their trial or what was answered says: 1, others 0. */
    async rowsWith(word) {
      const found = new Uint8Array(this.rows);
      const names = [...this.described.values()].filter((one) => one.said).map((one) => one.name);
      const inTrial = new Uint8Array(this.index.length);
      for (const of of [...this.trialNames, "trial_index"].map((name) => this.trials.get(name))) {
        const has = lower(of).map((text) => text.includes(word));
        for (let place = 0; place < inTrial.length; place += 1) if (has[of.code(place)]) inTrial[place] = 1;
      }
      for (let row = 0; row < this.rows; row += 1) found[row] = inTrial[this.place[row]];
      for (const of of await Promise.all(names.map((name) => this.column(name)))) {
        const has = lower(of).map((text) => text.includes(word));
        if (!has.includes(true)) continue;
        for (let row = 0; row < this.rows; row += 1) if (has[of.code(row)]) found[row] = 1;
      }
      return found;
    }

    /** Rows that a search and filters leave, in order. */
    async select({ q, filters, sort }) {
      const keep = new Uint8Array(this.rows).fill(1);
      const words = [...(q || "").toLowerCase().matchAll(/"([^"]+)"|(\S+)/g)];
      for (const match of words) {
        const has = await this.rowsWith(match[1] || match[2].replaceAll('"', ""));
        for (let row = 0; row < this.rows; row += 1) keep[row] &= has[row];
      }
      for (const filter of filters) {
        const of = await this.column(filter.column);
        if (!of) continue;
        const passes = of.values.map((value) => fits(value, filter, of.isNumber));
        for (let row = 0; row < this.rows; row += 1) if (!passes[of.code(row)]) keep[row] = 0;
      }
      const found = new Uint32Array(this.rows);
      let next = 0;
      for (let row = 0; row < this.rows; row += 1) {
        if (keep[row]) {
          found[next] = row;
          next += 1;
        }
      }
      const kept = found.subarray(0, next);
      const by = sort && (await this.column(sort.column));
      if (by) inOrder(kept, by, sort.descending);
      return kept;
    }
  }

  /** Whether a value passes a filter. */
  function fits(value, { op, value: wanted }, isNumber) {
    const empty = value === null || value === "";
    if (op === "empty") return empty;
    if (op === "filled") return !empty;
    if (op === "has") return !empty && String(value).split(";").includes(wanted);
    if (op === "contains") {
      return !empty && String(value).toLowerCase().includes(wanted.toLowerCase());
    }
    if (empty) return false;
    if (op === "min") return value >= Number(wanted);
    if (op === "max") return value <= Number(wanted);
    return isNumber ? value === Number(wanted) : String(value) === wanted;
  }

  /** Sort rows by a column; missing values come last in either direction. */
  function inOrder(rows, by, descending) {
    const missing = by.values.map((value) => value === null || value === "");
    const keys = by.isNumber ? by.values : lower(by);
    const known = [...new Set(keys.filter((_, place) => !missing[place]))];
    // Without a comparison of one's own texts are sorted fastest.
    if (by.isNumber) known.sort((a, b) => a - b);
    else known.sort();
    if (descending) known.reverse();
    const ranks = new Map(known.map((key, rank) => [key, rank]));
    const rank = keys.map((key, place) => (missing[place] ? known.length : ranks.get(key)));
    // Rank and row in one number, since numbers without a comparison of one's own sort fastest.
    const both = Float64Array.from(rows, (row) => rank[by.code(row)] * 2 ** 26 + row).sort();
    both.forEach((one, i) => {
      rows[i] = one % 2 ** 26;
    });
  }

  return { read, Study };
})();
