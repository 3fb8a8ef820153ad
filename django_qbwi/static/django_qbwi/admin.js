/* Live refresh of the page of the work items: fetch the same address, put the new regions in place of the old.
   Without this file the page works all the same, by links, forms and reloading. */

"use strict";

(() => {
    const page = document.querySelector("[data-qbwi-page]");
    if (!page) {
        return;
    }
    const select = page.querySelector("[data-qbwi-refresh]");
    const notice = page.querySelector("[data-qbwi-notice]");
    const TIMEOUT = 10000;
    let timer = null;
    let running = null;

    const regions = (root) => root.querySelectorAll("[data-qbwi-page] [data-qbwi-region]");
    const seconds = () => Number(select.value) || 0;

    function say(text) {
        if (notice.textContent !== text) {
            notice.textContent = text;
        }
        notice.hidden = !text;
    }

    /* What a region's elements are recognised by after it was replaced. */
    function keyOf(element) {
        const parent = element.closest("details");
        return [
            element.tagName,
            element.id,
            element.name,
            element.value,
            element.getAttribute("href"),
            element.getAttribute("aria-label"),
            parent && parent.id,
        ].join("\n");
    }

    function replace(region, fresh) {
        if (region.innerHTML === fresh.innerHTML) {
            return;
        }
        const selection = document.getSelection();
        if (selection && !selection.isCollapsed && region.contains(selection.anchorNode)) {
            return; /* somebody is about to copy a name or a stack */
        }
        const focused = region.contains(document.activeElement) ? keyOf(document.activeElement) : null;
        const open = new Set(Array.from(region.querySelectorAll("details[open]"), (details) => details.id));
        const checked = new Set(Array.from(region.querySelectorAll("input[name]:checked"), (input) => input.value));
        const scrolled = Array.from(region.querySelectorAll("pre"), (pre) => [pre.scrollTop, pre.scrollLeft]);
        region.replaceChildren(...Array.from(fresh.childNodes, (node) => document.importNode(node, true)));
        for (const details of region.querySelectorAll("details")) {
            details.open = open.has(details.id);
        }
        for (const input of region.querySelectorAll("input[name][type=checkbox]")) {
            input.checked = checked.has(input.value);
        }
        region.querySelectorAll("pre").forEach((pre, index) => {
            [pre.scrollTop, pre.scrollLeft] = scrolled[index] || [0, 0];
        });
        if (focused !== null) {
            const again = Array.from(region.querySelectorAll("a, button, input, summary, pre")).find(
                (element) => keyOf(element) === focused,
            );
            if (again) {
                again.focus({ preventScroll: true });
            }
        }
        showSelectAll();
    }

    async function refresh() {
        const abort = new AbortController();
        running = abort;
        const limit = setTimeout(() => abort.abort(), TIMEOUT);
        try {
            const response = await fetch(window.location.href, { signal: abort.signal, credentials: "same-origin" });
            const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
            const found = new Map(Array.from(regions(fresh), (region) => [region.dataset.qbwiRegion, region]));
            if (found.size) {
                say("");
                for (const region of regions(document)) {
                    if (found.has(region.dataset.qbwiRegion)) {
                        replace(region, found.get(region.dataset.qbwiRegion));
                    }
                }
            } else if (response.ok || response.status === 403 || response.status === 404) {
                /* The login page, a refusal, or an item that is forgotten: asking again will not help. */
                say("This page can no longer be refreshed. Reload it.");
                select.value = "";
            } else {
                say(`Could not refresh (status ${response.status}); trying again.`);
            }
        } catch {
            if (running === abort) {
                say("Could not refresh: no answer; trying again.");
            }
        } finally {
            clearTimeout(limit);
            if (running === abort) {
                running = null;
                plan();
            }
        }
    }

    function plan(delay = seconds() * 1000) {
        clearTimeout(timer);
        timer = null;
        if (seconds() && !document.hidden && !running) {
            timer = setTimeout(refresh, delay);
        }
    }

    function pause() {
        clearTimeout(timer);
        timer = null;
        if (running) {
            const abort = running;
            running = null;
            abort.abort();
        }
    }

    function choose() {
        const address = new URL(window.location.href);
        if (seconds()) {
            address.searchParams.set("refresh", select.value);
        } else {
            address.searchParams.delete("refresh");
        }
        window.history.replaceState(null, "", address);
        pause();
        say("");
        plan();
    }

    function showSelectAll() {
        for (const all of page.querySelectorAll("[data-qbwi-all]")) {
            const boxes = Array.from(all.closest("table").querySelectorAll("input[name=item]"));
            all.hidden = false;
            all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
            all.indeterminate = !all.checked && boxes.some((box) => box.checked);
        }
    }

    function countDown() {
        for (const count of page.querySelectorAll("[data-qbwi-seconds]")) {
            count.textContent = Math.max(0, Number(count.textContent) - 1);
        }
    }

    page.addEventListener("change", (event) => {
        if (event.target === select) {
            choose();
        } else if (event.target.matches("[data-qbwi-all]")) {
            for (const box of event.target.closest("table").querySelectorAll("input[name=item]")) {
                box.checked = event.target.checked;
            }
        } else if (event.target.name === "item") {
            showSelectAll();
        }
    });
    document.addEventListener("visibilitychange", () => (document.hidden ? pause() : plan(0)));
    setInterval(countDown, 1000);
    showSelectAll();
    plan();
})();
