"""The style sheet of a report: for a screen, and for A4 and Letter paper."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f3f5f7; color: #17222d;
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 900px; margin: 24px auto; padding: 34px 44px; background: #fff; border: 1px solid #e0e5ea; }
header { border-bottom: 2px solid #0b6b83; margin-bottom: 14px; }
h1 { margin: 0; font-size: 24px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 22px 0 8px; font-size: 16px; color: #085567; break-after: avoid; }
h3 { margin: 14px 0 4px; font-size: 13px; break-after: avoid; }
p { margin: 6px 0; }
.kind { margin: 0; font-size: 12px; letter-spacing: .05em; text-transform: uppercase; color: #566472; }
.made { color: #566472; overflow-wrap: anywhere; }
.use { margin: 8px 0 12px; font-weight: 650; }
.review { margin: 6px 0 0; font-weight: 600; }
.caution { padding: 7px 11px; color: #7a4f00; background: #fff7e6; border: 1px solid #efdcb0; border-radius: 6px;
  overflow-wrap: anywhere; }
.figures { display: flex; gap: 20px; align-items: flex-start; margin-top: 14px; }
figure { flex: 1 1 0; min-width: 0; margin: 0; break-inside: avoid; }
figure > svg { display: block; width: 100%; max-height: 460px; background: #f3f5f7; border: 1px solid #e0e5ea; }
figcaption { margin-top: 4px; font-size: 12.5px; color: #566472; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; padding: 0; margin: 4px 0 0; list-style: none; }
.swatch { width: 12px; height: 12px; margin-right: 7px; vertical-align: -1px; }
.areas { display: grid; grid-template-columns: minmax(240px, 1fr) 1.7fr; gap: 26px; align-items: start; }
.chart { display: block; width: 100%; margin: 6px 0 8px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-size: 12px; font-weight: 600; text-align: left; color: #566472; border-bottom: 1px solid #cfd8de; }
th, td { padding: 4px 8px 4px 0; vertical-align: top; overflow-wrap: anywhere; }
td { border-bottom: 1px solid #eef1f3; }
tr { break-inside: avoid; }
th { overflow-wrap: normal; }
.n { text-align: right; }
td.n { white-space: nowrap; }
.sum td { font-weight: 600; border-top: 1px solid #cfd8de; border-bottom: 0; }
section > p { font-size: 12.5px; color: #566472; }
dl { display: grid; grid-template-columns: 170px 1fr; gap: 3px 14px; margin: 0; }
dt { color: #566472; }
dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 26px; padding-top: 8px; font-size: 12.5px; color: #566472; border-top: 1px solid #e0e5ea; }
@media (max-width: 700px) {
  main { margin: 0; padding: 18px; border: 0; }
  .figures, .areas { display: block; }
  figure { margin-bottom: 14px; }
}
@page { margin: 14mm 14mm 18mm; @bottom-center { content: "Research use only. Not a medical device.";
  font: 9pt system-ui, sans-serif; color: #566472; } }
@media print {
  body { background: #fff; font-size: 9.5pt; line-height: 1.35; }
  h2 { margin-top: 14px; }
  footer { margin-top: 14px; }
  main { max-width: none; margin: 0; padding: 0; border: 0; }
  .figures, .areas, section { break-inside: avoid; }
  * { print-color-adjust: exact; }
}
"""
