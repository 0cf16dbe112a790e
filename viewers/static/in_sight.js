// Tells that an element has come into sight again: its tab was opened, or the browser's window brought to the front.

export class InSight {
  constructor(element, act) {
    this.tell = () => this.shown && !document.hidden && act();
    this.observer = new IntersectionObserver((entries) => {
      const before = this.shown;
      this.shown = entries.at(-1).isIntersecting;
      if (before === false) this.tell(); // what is in sight from the beginning has not come into it
    });
    this.observer.observe(element);
    document.addEventListener('visibilitychange', this.tell);
  }

  destroy() {
    this.observer.disconnect();
    document.removeEventListener('visibilitychange', this.tell);
  }
}
