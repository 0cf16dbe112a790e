// Reading GeoJSON that people bring: what can be drawn, and a sentence about what cannot.

/** How deep lists of points lie in the coordinates of what can be drawn. */
const DEPTHS = { Point: 0, MultiPoint: 1, LineString: 1, MultiLineString: 2, Polygon: 2, MultiPolygon: 3 };

/** Features of what somebody exported: a collection, a list, one feature, or a bare geometry; at least one. */
export function featuresOf(document) {
  const found = listed(document);
  if (!found.length) throw new Error('it holds no annotations');
  found.forEach((feature, i) => {
    if (feature?.type !== 'Feature' || !isDrawn(feature.geometry)) throw new Error(`its annotation ${i + 1} is no point, line or polygon`);
  });
  return found;
}

function listed(document) {
  if (Array.isArray(document)) return document.flatMap(listed);
  if (document?.type === 'FeatureCollection') return document.features ?? [];
  if (document?.type === 'Feature') return [document];
  if (document?.coordinates) return [{ type: 'Feature', geometry: document, properties: {} }];
  throw new Error('it holds no GeoJSON features');
}

const isDrawn = (geometry) => Object.hasOwn(DEPTHS, geometry?.type ?? '') && isList(geometry.coordinates, DEPTHS[geometry.type]);

function isList(value, depth) {
  if (!Array.isArray(value) || !value.length) return false;
  if (depth) return value.every((part) => isList(part, depth - 1));
  return value.length >= 2 && value.every(Number.isFinite);
}
