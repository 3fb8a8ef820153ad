/* Keeps the bars of {% work_item_progress %} up to date: asks the address of each for status and progress, first often,
   then less often, until the item has ended. Without this file a bar shows what was known when the page was made.

   A bar tells its page of the end by the event "qbwi:ended", whose detail is the last answer, and by "qbwi:lost" when
   nobody knows the item any more. */

"use strict";

(() => {
    const FIRST = 500; /* milliseconds */
    const LONGEST = 5000;
    const GROWTH = 1.25;
    const TIMEOUT = 10000;
    const PATIENCE = 10; /* answers in a row that say nothing: another process, or another host, may know more */

    class Follower {
        constructor(box) {
            this.box = box;
            this.words = JSON.parse(box.dataset.words || "{}");
            this.pause = FIRST;
            this.misses = 0;
            this.timer = null;
            this.asking = false;
            this.look = () => this.plan(0);
            document.addEventListener("visibilitychange", this.look);
            this.plan(this.pause);
        }

        plan(pause) {
            clearTimeout(this.timer);
            if (!document.hidden && !this.asking) {
                this.timer = setTimeout(() => this.ask(), pause);
            }
        }

        async ask() {
            if (!this.box.isConnected) {
                this.stop();
                return;
            }
            this.asking = true;
            const answer = await this.answer();
            this.asking = false;
            if (answer && typeof answer.status === "string") {
                this.misses = 0;
                this.show(answer);
                if (answer.ended) {
                    this.stop("qbwi:ended", answer);
                    return;
                }
            } else {
                this.misses += 1;
                if (answer === null || this.misses >= PATIENCE) {
                    this.say("unknown");
                    this.stop("qbwi:lost", null);
                    return;
                }
            }
            this.pause = Math.min(this.pause * GROWTH, LONGEST);
            this.plan(this.pause);
        }

        /* What the server says; undefined if it says nothing that can be shown now, null if it never will. */
        async answer() {
            const abort = new AbortController();
            const limit = setTimeout(() => abort.abort(), TIMEOUT);
            try {
                const options = { signal: abort.signal, credentials: "same-origin", cache: "no-store" };
                const response = await fetch(this.box.dataset.qbwiProgress, options);
                if (response.status === 403) {
                    return null;
                }
                return response.ok ? await response.json() : undefined;
            } catch {
                return undefined;
            } finally {
                clearTimeout(limit);
            }
        }

        show(answer) {
            const progress = answer.progress || { fraction: null, done: null, text: "" };
            const bar = this.box.querySelector("progress");
            let fraction = progress.fraction;
            let amount = progress.done === null ? "" : String(progress.done);
            if (answer.status === "succeeded") {
                fraction = 1;
                amount = "100 %";
            } else if (fraction !== null) {
                amount = `${progress.percent} %`;
            } else if (answer.ended) {
                fraction = 0;
            }
            if (fraction === null) {
                bar.removeAttribute("value");
            } else {
                bar.value = fraction;
            }
            bar.textContent = amount;
            this.write("[data-qbwi-amount]", amount);
            this.write("[data-qbwi-text]", progress.text);
            this.say(answer.status);
        }

        say(status) {
            this.box.dataset.status = status;
            this.write("[data-qbwi-word]", this.words[status] || status);
        }

        write(selector, text) {
            const element = this.box.querySelector(selector);
            if (element && element.textContent !== text) {
                element.textContent = text; /* a reader's software says what has changed, and nothing else */
            }
        }

        stop(event, detail) {
            clearTimeout(this.timer);
            document.removeEventListener("visibilitychange", this.look);
            if (event) {
                this.box.dispatchEvent(new CustomEvent(event, { bubbles: true, detail }));
            }
        }
    }

    /* Once for each bar, however often the page has this script. */
    for (const box of document.querySelectorAll("[data-qbwi-progress]:not([data-qbwi-followed])")) {
        box.dataset.qbwiFollowed = "yes";
        new Follower(box);
    }
})();
