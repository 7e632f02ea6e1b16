/*! sortable-tablesort 4.1.7, written by scripts/setup/report_page.sh.
This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or
distribute this software, either in source code form or as a compiled
binary, for any purpose, commercial or non-commercial, and by any
means.

In jurisdictions that recognize copyright laws, the author or authors
of this software dedicate any and all copyright interest in the
software to the public domain. We make this dedication for the benefit
of the public at large and to the detriment of our heirs and
successors. We intend this dedication to be an overt act of
relinquishment in perpetuity of all present and future rights to this
software under copyright law.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR
OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR
OTHER DEALINGS IN THE SOFTWARE.

For more information, please refer to <http://unlicense.org>
*/
document.addEventListener("click",function(c){try{var z=c.shiftKey||c.altKey,g=c.target.closest("th"),t=g.parentNode,u=t.parentNode,h=u.parentNode;if(u.nodeName==="THEAD"&&h.classList.contains("sortable")&&!g.classList.contains("no-sort")){var k=t.cells;for(c=0;c<k.length;c++)k[c]!==g&&k[c].removeAttribute("aria-sort");k="descending";(g.getAttribute("aria-sort")==="descending"||h.classList.contains("asc")&&g.getAttribute("aria-sort")!=="ascending")&&(k="ascending");g.setAttribute("aria-sort",k);h.dataset.timer&&
clearTimeout(+h.dataset.timer);h.dataset.timer=setTimeout(function(){(function(d,A){function v(b){var e;if(!b)return"";if(A&&b.dataset.sortAlt!==void 0)return b.dataset.sortAlt;if(b.dataset.sort!==void 0)return b.dataset.sort;var a=b.firstChild;if(a)switch(a.nodeName){case "TIME":return a.dateTime;case "DATA":case "METER":case "PROGRESS":return a.value;case "ABBR":return a.title}return((e=b.textContent)!==null&&e!==void 0?e:"").trim()}var l=d.tHead.querySelector("th[aria-sort]");if(l){d.dispatchEvent(new Event("sort-start",
{bubbles:!0}));for(var n=d.tHead.children[0],B=l.getAttribute("aria-sort")==="ascending",C=d.classList.contains("n-last"),x=function(b,e,a){var f=v(e.cells[a]),m=v(b.cells[a]);if(C){if(f===""&&m!=="")return-1;if(m===""&&f!=="")return 1}var w=+f-+m;f=isNaN(w)?f.localeCompare(m):w;return f===0&&n.cells[a]&&n.cells[a].hasAttribute("data-sort-tbr")?x(b,e,+n.cells[a].dataset.sortTbr):B?-f:f},p=0;p<d.tBodies.length;p++){var q=d.tBodies[p],y=[].slice.call(q.rows,0);y.sort(function(b,e){var a;return x(b,
e,+((a=l.dataset.sortCol)!==null&&a!==void 0?a:l.cellIndex))});var r=q.cloneNode();r.append.apply(r,y);d.replaceChild(r,q)}d.dispatchEvent(new Event("sort-end",{bubbles:!0}))}})(h,z)},1).toString()}}catch{}});
