// The rows of a mart. Cells change in place; a value that moved since the last reading is marked for a moment.

import { attr, el, icon } from "./dom.js";
import { put } from "./text.js";

const MARK_MS = 1800;
const IDENTITY = /(^|_)id$/;

/// `onSort(column)` when a header is pressed.
export class Grid {
  constructor(head, body, onSort) {
    Object.assign(this, { head, body, onSort, columns: "", before: new Map() });
  }

  /// What was shown is no measure for what comes next: another mart, order or page.
  forget() {
    this.before = new Map();
  }

  show({ columns, rows }, { sort, dir }) {
    this.header(columns, sort, dir);
    while (this.body.rows.length > rows.length) this.body.lastChild.remove();
    const now = new Map();
    rows.forEach((row, i) => now.set(this.row(columns, row, i), row));
    this.before = now;
  }

  header(columns, sort, dir) {
    const key = JSON.stringify(columns);
    if (key !== this.columns) {
      this.columns = key;
      this.body.replaceChildren();
      this.head.replaceChildren(...columns.map((column) => this.heading(column)));
    }
    columns.forEach(({ name }, i) => {
      attr(this.head.children[i], "aria-sort", name !== sort ? "none" : dir === "desc" ? "descending" : "ascending");
    });
  }

  heading({ name, numeric }) {
    const label = el("span");
    put(label, name, { max: 60, whole: false });
    const button = el("button", { type: "button", "data-sort": name, onclick: () => this.onSort(name) }, label, icon("sort"));
    return el("th", { scope: "col", class: numeric ? "num" : null }, button);
  }

  /// Fills row `i` and returns its identity: everything but the measures.
  row(columns, values, i) {
    const identity = JSON.stringify(values.filter((_, k) => !columns[k].numeric || IDENTITY.test(columns[k].name)));
    const old = this.before.get(identity);
    const cells = (
      this.body.rows[i] ??
      this.body.appendChild(el("tr", {}, ...columns.map(({ numeric }) => el("td", { class: numeric ? "num" : null }))))
    ).cells;
    values.forEach((value, k) => {
      write(cells[k], value);
      if (old && old[k] !== value) mark(cells[k]);
    });
    return identity;
  }
}

function write(cell, value) {
  cell.classList.toggle("null", value === null);
  put(cell, value ?? "NULL", { max: 80, title: "Value" });
}

function mark(cell) {
  clearTimeout(cell.unmark);
  cell.classList.add("changed");
  cell.unmark = setTimeout(() => cell.classList.remove("changed"), MARK_MS);
}
