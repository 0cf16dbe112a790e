// Outlines with fewer points: what a hand drew has many more than its shape needs.

/** The points that keep a line within `tolerance` of what it was (Douglas and Peucker 1973); first and last stay. */
export function simplified(points, tolerance) {
  if (points.length < 3) return points;
  const kept = new Set([0, points.length - 1]);
  const waiting = [[0, points.length - 1]];
  while (waiting.length) {
    const [first, last] = waiting.pop();
    const [farthest, distance] = farthestBetween(points, first, last);
    if (distance <= tolerance) continue;
    kept.add(farthest);
    waiting.push([first, farthest], [farthest, last]);
  }
  return points.filter((_, i) => kept.has(i));
}

function farthestBetween(points, first, last) {
  let [farthest, most] = [first, 0];
  for (let i = first + 1; i < last; i += 1) {
    const distance = away(points[i], points[first], points[last]);
    if (distance > most) [farthest, most] = [i, distance];
  }
  return [farthest, most];
}

/** Those of many places on the screen that have `room` pixels to the one taken before them: their numbers. */
export function withRoom(places, room) {
  let before = null;
  return places.flatMap(([x, y], i) => {
    if (before && Math.hypot(x - before[0], y - before[1]) < room) return [];
    before = [x, y];
    return [i];
  });
}

/** Distance of a point from a stretch of line. */
export function away([x, y], [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const along = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}
