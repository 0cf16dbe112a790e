// From a data set that was just made to the Train tab, in which it is chosen.

let wanted = null;

/** Open the Train tab with the data set of that name (its folder below the data folder). */
export function trainOn(name) {
  wanted = name;
  document.querySelector('#lpd-tabs [role=tab][data-tab-id=train]')?.click();
}

/** The data set that somebody wants to train on, told once; null if there is none. */
export function takeWanted() {
  const name = wanted;
  wanted = null;
  return name;
}
