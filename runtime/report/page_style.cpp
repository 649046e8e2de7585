#include "runtime/report/page.h"

namespace hearth {

// Eight colours for curves that are told apart by everybody (after Okabe and Ito, and Tol), each
// with enough contrast on its ground.
std::string_view PageColors(bool is_dark) {
  constexpr std::string_view kLight =
      "color-scheme:light;--bg:#faf9f7;--card:#ffffff;--line:#e7e2db;--text:#1f1b17;--soft:#6f665c;"
      "--accent:#b93c0a;--good:#00784f;--bad:#b3261e;--live:#0067a3;--rest:#b8b0a6;"
      "--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b8559b;--s4:#c98a00;--s5:#3d9fd8;--s6:#3b2f8f;"
      "--s7:#77716a;";
  constexpr std::string_view kDark =
      "color-scheme:dark;--bg:#151311;--card:#1d1a18;--line:#35302b;--text:#ece7e1;--soft:#a59b90;"
      "--accent:#f98a45;--good:#3ecf9f;--bad:#ff8a80;--live:#63b8f0;--rest:#5d564f;"
      "--s0:#4da9ea;--s1:#ff8b3e;--s2:#2fc79c;--s3:#e592c8;--s4:#f3c04d;--s5:#a5d9f7;--s6:#a79bf2;"
      "--s7:#aaa39b;";
  return is_dark ? kDark : kLight;
}

std::string_view PageStyle() {
  return R"css(*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
header,main{max-width:1240px;margin:0 auto;padding:0 24px}
header{display:flex;align-items:baseline;gap:16px;padding-top:30px}
h1{font-size:27px;line-height:1.25;font-weight:680;letter-spacing:-.015em;margin:0;overflow-wrap:anywhere;
flex:1}
h2{font-size:17px;font-weight:640;letter-spacing:-.005em;margin:38px 0 12px}
h3{font-size:14px;font-weight:620;margin:0 0 8px;text-transform:capitalize}
p{margin:0}
code{font:.93em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
button,select{font:inherit;color:inherit}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.sub{color:var(--soft);margin-top:6px;display:flex;flex-wrap:wrap;gap:4px 14px;align-items:center}
p.best{margin-top:10px}
p.best code{background:var(--card);border:1px solid var(--line);border-radius:5px;padding:1px 6px}
p.problem,tr.problem td{color:var(--bad)}
.note,footer{color:var(--soft);font-size:13px;margin-top:8px}
footer{margin:44px 0 40px;border-top:1px solid var(--line);padding-top:14px}
.badge{display:inline-block;font-size:12px;line-height:1;font-weight:560;padding:4px 8px;border-radius:20px;
white-space:nowrap;color:var(--soft);border:1px solid currentColor}
.badge.good{color:var(--good)}.badge.bad{color:var(--bad)}.badge.live{color:var(--live)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px;margin:20px 0 0}
.tile,.chart,.tiers,.scroll,section>details,section>ul{background:var(--card);border:1px solid var(--line);
border-radius:10px}
.tile{padding:12px 16px 13px}
.tile dt{color:var(--soft);font-size:13px}
.tile dd{margin:1px 0 0;font-size:23px;line-height:1.25;font-weight:640;letter-spacing:-.01em}
.tile p{color:var(--soft);font-size:12.5px;margin-top:2px}
.charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px}
.chart{margin:0;padding:13px 14px 8px;min-width:0}
.chart.wide{grid-column:1/-1}
@media (min-width:1100px){.charts.three{grid-template-columns:repeat(3,minmax(0,1fr))}}
figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 10px;min-height:26px;margin-bottom:4px;position:relative;padding-right:46px;
font-size:14px}
figcaption b{font-weight:620}
.unit{color:var(--soft);font-size:12.5px}
.keys{display:flex;flex-wrap:wrap;gap:2px 4px;margin-left:6px}
.key,.log{border:0;background:none;font-size:12.5px;padding:1px 6px;border-radius:5px;cursor:pointer}
.key[aria-pressed=false]{opacity:.4;text-decoration:line-through}
.log{position:absolute;right:0;top:0;color:var(--soft);border:1px solid var(--line)}
.log[aria-pressed=true]{color:var(--card);background:var(--soft);border-color:var(--soft)}
.swatch{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;vertical-align:-.5px;
flex:none}
.plot{position:relative;touch-action:pan-y}
.plot svg{display:block;width:100%;height:auto;overflow:visible}
.js .plot[data-live]{cursor:crosshair}
svg text{font-size:11.5px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .end{text-anchor:end}svg .middle{text-anchor:middle}
svg path{fill:none;vector-effect:non-scaling-stroke}
svg .grid{stroke:var(--line)}
svg .axis{stroke:var(--soft);opacity:.55}
svg .line{stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
svg .raw{stroke-width:1;opacity:.32;stroke-linejoin:round}svg .raw.many{opacity:.13}
svg .band{opacity:.2}svg .band.many{opacity:.08}
svg .best{stroke:var(--soft);stroke-dasharray:3 4;opacity:.8}
svg .dot{stroke:var(--card);stroke-width:1.5;cursor:default}svg .dot.open{fill:var(--card);stroke-width:2}
svg .cross{stroke:var(--soft);stroke-dasharray:2 3}
svg .beyond{text-anchor:end;font-size:11px;paint-order:stroke;stroke:var(--card);stroke-width:4px}
svg .zoom{fill:var(--accent);opacity:.14}
svg .dim{opacity:.07}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{padding:6px 14px;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}
th{color:var(--soft);font-weight:560;white-space:nowrap}
th button{border:0;background:none;padding:0;font-weight:inherit;cursor:pointer}
th[aria-sort] button{color:var(--text)}
th[aria-sort=ascending] button::after{content:" \2191"}th[aria-sort=descending] button::after{content:" \2193"}
.n{text-align:right;white-space:nowrap}
.runs td:first-child,.runs td:nth-child(3){white-space:nowrap}
.runs label,.chip{cursor:pointer}
.runs tbody tr:hover td{background:var(--bg)}
.leaves td{overflow-wrap:anywhere}.leaves td:first-child{white-space:nowrap}
.from td:last-child{color:var(--soft)}
tr.default td{color:var(--soft)}
.events td:first-child{white-space:nowrap;color:var(--soft)}
.tiers{padding:16px;display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:24px}
.tier{min-width:0}
.bar{margin:0 0 8px;font-size:13px;color:var(--soft)}
.bar b{color:var(--text);font-weight:600}
.track{display:flex;height:15px;margin-top:3px;border-radius:4px;overflow:hidden;background:var(--bg)}
.track i{flex:none;height:100%;box-shadow:inset -1px 0 var(--card)}
.track .measured{background:var(--soft)}
details>summary{cursor:pointer;color:var(--soft);font-size:13.5px;padding:4px 0}
details .scroll{border:0;border-radius:0}
section>.scroll+details,section>details+details{margin-top:12px}
section>details{padding:6px 16px}
section>ul{margin:0;padding:12px 16px 12px 34px;font-size:13.5px}
input[data-run],#controls{display:none}
.js input[data-run]{display:inline-block;margin:0 7px 0 0;vertical-align:-1.5px;accent-color:var(--soft)}
.js #controls{display:flex;flex-wrap:wrap;align-items:center;gap:6px 22px;position:sticky;top:0;z-index:5;
margin:26px 0 -14px;padding:9px 0;background:var(--bg);border-bottom:1px solid var(--line);
font-size:13.5px;color:var(--soft)}
#controls>label{display:inline-flex;align-items:center;gap:8px}
#controls select,#whole,#theme{background:var(--card);color:var(--text);border:1px solid var(--line);
border-radius:6px;padding:2px 8px;cursor:pointer}
#smoothing{width:110px;accent-color:var(--accent)}
#smoothed{min-width:62px}
.chips{display:flex;flex-wrap:wrap;gap:3px 14px}
.chip{color:var(--text);white-space:nowrap;font-size:13px}
#tip{position:absolute;z-index:9;pointer-events:none;background:var(--card);border:1px solid var(--line);
border-radius:8px;box-shadow:0 4px 18px rgb(0 0 0/.16);padding:8px 11px;font-size:12.5px;line-height:1.45;
max-width:min(430px,92vw);white-space:pre-line}
#tip[hidden]{display:none}
#tip div{color:var(--soft);margin-bottom:3px}
#tip table{font-size:12.5px;width:auto}
#tip td{border:0;padding:0 12px 0 0;white-space:nowrap}
#tip td:first-child{overflow:hidden;text-overflow:ellipsis;max-width:200px}
#tip td:last-child{padding:0;color:var(--soft)}
@media (max-width:860px){.charts{grid-template-columns:minmax(0,1fr)}
.js #controls{position:static}}
@media (max-width:560px){header,main{padding-left:14px;padding-right:14px}header{padding-top:18px}
h1{font-size:22px}.chart{padding:11px 10px 6px}.tiles{grid-template-columns:repeat(2,minmax(0,1fr));gap:8px}
.tile{padding:10px 12px}.tile dd{font-size:20px}.plot:not([data-live]) svg text{font-size:16.5px}th,td{padding:6px 10px}.leaves td:first-child{white-space:normal}}
@media print{body{font-size:11pt;background:none}
.charts,.charts.three{grid-template-columns:repeat(2,minmax(0,1fr))}header,main{max-width:none;padding:0}#theme,.js #controls,.log{display:none}
.chart,.tile,tr,.tier{break-inside:avoid}h2{break-after:avoid}.scroll{overflow:visible}}
)css";
}

}  // namespace hearth
