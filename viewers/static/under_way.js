// Edits that the server has not answered yet: whoever closes or reloads the page is asked first.

export class UnderWay {
  constructor() {
    this.count = 0;
    this.beforeLeaving = (event) => this.count && event.preventDefault();
    window.addEventListener('beforeunload', this.beforeLeaving);
  }

  /** Take note of an edit until it is settled. */
  async hold(edit) {
    this.count += 1;
    try {
      return await edit;
    } finally {
      this.count -= 1;
    }
  }

  destroy() {
    window.removeEventListener('beforeunload', this.beforeLeaving);
  }
}
