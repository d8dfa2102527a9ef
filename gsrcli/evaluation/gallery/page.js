"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // Tables: a click on a heading sorts by it, a second click reverses the order; missing values stay last.
  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value ?? cell.textContent;
    return value === "" || Number.isNaN(Number(value)) ? value : Number(value);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  for (const button of all("th button")) {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      const body = heading.closest("table").tBodies[0];
      const other = { ascending: "descending", descending: "ascending" };
      const order = other[heading.getAttribute("aria-sort")] ?? button.dataset.first;
      for (const each of heading.parentElement.cells) each.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = all("tr", body).map((row) => [key(row, heading.cellIndex), row]);
      keyed.sort(([a], [b]) => (a === "") - (b === "") || sign * compare(a, b));
      for (const [, row] of keyed) row.classList.remove("first");
      body.append(...keyed.map(([, row]) => row));
    });
  }

  // The filter narrows the table of pictures and the comparisons below it.
  const form = document.querySelector("form");
  const filter = () => {
    const wanted = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim().toLowerCase()]));
    const fits = ({ dataset }) =>
      Object.entries(wanted).every(([name, value]) => {
        const own = dataset[name]?.toLowerCase();
        return !value || own === undefined || (name === "picture" ? own.includes(value) : own === value);
      });
    const narrow = (elements) => {
      for (const element of elements) element.hidden = !fits(element);
      return `${elements.filter((element) => !element.hidden).length} of ${elements.length}`;
    };
    const rows = narrow(all("#pictures tbody tr"));
    form.querySelector("output").value = `${rows} rows, ${narrow(all("article"))} comparisons`;
  };
  for (const name of ["input", "change"]) form.addEventListener(name, filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  // Viewers: two pictures on top of each other, the upper one clipped at a divider that stays put while they scroll.
  class Viewer {
    constructor(root) {
      this.stage = root.querySelector(".stage");
      this.scroller = root.querySelector(".scroller");
      this.canvas = root.querySelector(".canvas");
      this.handle = root.querySelector(".handle");
      this.pictures = all("img", this.canvas);
      this.marks = all(".mark", this.canvas);
      this.zoom = root.querySelector("select[name=zoom]");
      this.sides = { left: root.querySelector("select[name=left]"), right: root.querySelector("select[name=right]") };
      this.position = 50;

      for (const [side, select] of Object.entries(this.sides))
        select.addEventListener("change", () => Viewer.choose({ [side]: Viewer.label(select) }));
      root.querySelector(".swap").addEventListener("click", () =>
        Viewer.choose({ left: Viewer.label(this.sides.right), right: Viewer.label(this.sides.left) }));
      this.zoom.addEventListener("change", () => this.magnify(this.zoom.value));
      this.handle.addEventListener("keydown", (event) => this.key(event));
      this.handle.addEventListener("pointerdown", (event) => this.drag(event, this.handle, this.follow()));
      this.scroller.addEventListener("pointerdown", (event) => this.press(event));
      this.scroller.addEventListener("scroll", () => this.clip());
      new ResizeObserver(() => this.clip()).observe(this.scroller);
      this.show();
    }

    static label = (select) => select.selectedOptions[0].textContent;

    // A choice applies to every viewer that has the picture, for comparing down the page.
    static choose(labels) {
      for (const viewer of viewers.values()) {
        for (const [side, label] of Object.entries(labels)) {
          const option = [...viewer.sides[side].options].find((each) => each.textContent === label);
          if (option) option.selected = true;
        }
        viewer.show();
      }
    }

    show() {
      for (const [side, select] of Object.entries(this.sides)) {
        this.pictures.forEach((picture, index) => picture.classList.toggle(side, index === select.selectedIndex));
        this.stage.querySelector(`.tag.${side}`).textContent = Viewer.label(select);
      }
      this.clip();
    }

    move(position) {
      this.position = clamp(position, 0, 100);
      this.clip();
    }

    clip() {
      const { scrollLeft, clientWidth, scrollWidth } = this.scroller;
      const split = (scrollLeft + (this.position / 100) * clientWidth) / (scrollWidth || 1);
      this.stage.style.setProperty("--position", this.position);
      this.stage.style.setProperty("--split", `${100 * split}%`);
      this.handle.setAttribute("aria-valuenow", Math.round(this.position));
      const [left, right] = [this.sides.left, this.sides.right].map(Viewer.label);
      this.handle.setAttribute("aria-valuetext", `${Math.round(this.position)} %: left ${left}, right ${right}`);
    }

    magnify(factor) {
      const { scrollLeft, scrollTop, clientWidth, clientHeight, scrollWidth, scrollHeight } = this.scroller;
      const centre = [(scrollLeft + clientWidth / 2) / scrollWidth, (scrollTop + clientHeight / 2) / scrollHeight];
      this.zoom.value = factor;
      this.stage.toggleAttribute("data-zoom", factor !== "fit");
      if (factor !== "fit") this.stage.style.setProperty("--magnify", factor);
      for (const mark of this.marks) mark.hidden = true;
      this.look(...centre);
    }

    look(x, y) {
      this.scroller.scrollLeft = x * this.scroller.scrollWidth - this.scroller.clientWidth / 2;
      this.scroller.scrollTop = y * this.scroller.scrollHeight - this.scroller.clientHeight / 2;
      this.clip();
    }

    locate(index) {
      this.magnify("4");
      const mark = this.marks[index];
      mark.hidden = false;
      const [x, y] = [mark.offsetLeft + mark.offsetWidth / 2, mark.offsetTop + mark.offsetHeight / 2];
      this.look(x / this.canvas.offsetWidth, y / this.canvas.offsetHeight);
      this.move((100 * (x - this.scroller.scrollLeft)) / this.scroller.clientWidth);
      this.stage.scrollIntoView({ block: "center" });
      this.handle.focus({ preventScroll: true });
    }

    key(event) {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
      const step = steps[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.move(this.position + step * (event.shiftKey ? 10 : 1));
    }

    press(event) {
      if (!this.stage.hasAttribute("data-zoom")) {
        const follow = this.follow();
        follow(event);
        this.drag(event, this.scroller, follow);
      } else if (event.pointerType === "mouse" && event.target !== this.scroller) {
        this.drag(event, this.scroller, ({ movementX, movementY }) => this.scroller.scrollBy(-movementX, -movementY));
      }
    }

    follow() {
      const { left, width } = this.stage.getBoundingClientRect();
      return ({ clientX }) => this.move((100 * (clientX - left)) / width);
    }

    drag(event, element, moved) {
      if (event.button !== 0) return;
      if (event.pointerType === "mouse") event.preventDefault();
      this.handle.focus({ preventScroll: true });
      element.setPointerCapture(event.pointerId);
      const end = () => {
        element.removeEventListener("pointermove", moved);
        for (const name of ["pointerup", "pointercancel"]) element.removeEventListener(name, end);
      };
      element.addEventListener("pointermove", moved);
      for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, end);
    }
  }

  const viewers = new Map(all(".viewer").map((root) => [root.closest("article"), new Viewer(root)]));
  for (const article of all("article"))
    all(".locate", article).forEach((button, index) => button.addEventListener("click", () => viewers.get(article).locate(index)));
})();
