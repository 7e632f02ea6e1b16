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

  const has = (name) => packed.has(name);

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
    async column(name) {
      if (this.known.has(name)) return this.known.get(name);
      let found = null;
      const own = this.described.get(name);
      if (own) {
        found = column((await read(own.block))[name], own.number);
      } else if (this.trials && this.trials.has(name)) {
        const of = this.trials.get(name);
        found = {
          isNumber: of.isNumber,
          values: of.values,
          code: (row) => of.code(this.place[row]),
          value: (row) => of.value(this.place[row]),
        };
      }
      this.known.set(name, found);
      return found;
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
      const block = await read(`${this.name}/references`);
      if (!block[kind]) return null;
      const number = column(block[kind], true).value(row);
      return number === null || number === undefined ? null : this.text(number);
    }

    /** A query's distributions by row, in the order of its options; null where there are none. */
    async distributions(query) {
      if (!has(query.block)) return null;
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

    /** Lower-case texts to search in, of trials and of rows. */
    async haystacks() {
      if (!this.searched) {
        const names = this.trialNames.map((name) => this.trials.get(name));
        const trials = this.index.map((index, place) =>
          [index, ...names.map((one) => one.value(place))].join("\n").toLowerCase(),
        );
        const block = await read(this.described.get("quality_flags").block);
        const own = await Promise.all(Object.keys(block).map((name) => this.column(name)));
        const rows = Array.from({ length: this.rows }, (_, row) => {
          let text = "";
          for (const one of own) text += `${one.value(row) ?? ""}\n`;
          return text.toLowerCase();
        });
        this.searched = { trials, rows };
      }
      return this.searched;
    }

    /** Rows that a search and filters leave, in order. */
    async select({ q, filters, sort }) {
      const keep = new Uint8Array(this.rows).fill(1);
      const words = [...(q || "").toLowerCase().matchAll(/"([^"]+)"|(\S+)/g)];
      if (words.length) {
        const { trials, rows } = await this.haystacks();
        for (const match of words) {
          const word = match[1] || match[2].replaceAll('"', "");
          const inTrial = trials.map((text) => text.includes(word));
          for (let row = 0; row < this.rows; row += 1) {
            if (keep[row] && !inTrial[this.place[row]] && !rows[row].includes(word)) keep[row] = 0;
          }
        }
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
    const places = by.values.map((_, place) => place);
    const key = by.values.map((value) => (by.isNumber ? value : (value ?? "").toLowerCase()));
    const missing = by.values.map((value) => value === null || value === "");
    const sign = descending ? -1 : 1;
    places.sort((a, b) => {
      if (missing[a] || missing[b]) return missing[a] - missing[b];
      if (key[a] === key[b]) return 0;
      return key[a] < key[b] ? -sign : sign;
    });
    const rank = new Uint32Array(places.length);
    let last = 0;
    places.forEach((place, i) => {
      if (i && key[places[i - 1]] !== key[place]) last = i;
      rank[place] = last;
    });
    // Rank and row in one number, since numbers without a comparison of one's own sort fastest.
    const both = Float64Array.from(rows, (row) => rank[by.code(row)] * 2 ** 26 + row).sort();
    both.forEach((one, i) => {
      rows[i] = one % 2 ** 26;
    });
  }

  return { read, Study };
})();
