/**
 * Reads a webhook of GitHub and emits what it says as one typed event, `github.event`.
 *
 * The name of the webhook's event is in the header `X-GitHub-Event`. Whatever the payload lacks is null:
 * there are some sixty kinds of webhooks, and this handler reads what most of them share.
 */

import { Reject, define, emit, log } from "../../sdk-js/tidemill.js";

export const handler = define((event) => {
    const name = event.header("x-github-event");
    if (!name) throw new Reject("no webhook of GitHub: the header X-GitHub-Event is missing");
    const payload = event.json();
    if (payload === null || typeof payload !== "object") throw new Reject("no webhook of GitHub: its data are no object");
    const data = {
        event: name,
        action: first(payload.action),
        repository: first(payload.repository?.full_name),
        organization: first(payload.organization?.login),
        sender: first(payload.sender?.login),
        ...what(payload),
    };
    emit("github.event", data, { subject: first(data.repository, data.organization, data.sender, name) });
    log.info(`${name} ${data.action ?? ""}`.trim(), { repository: data.repository ?? "-" });
});

/** What it is about: its title and where to look at it. */
function what(payload) {
    const about =
        payload.pull_request ??
        payload.issue ??
        payload.discussion ??
        payload.release ??
        payload.workflow_run ??
        payload.head_commit ??
        payload.repository;
    return {
        title: first(about?.title, about?.name, about?.message, about?.full_name),
        url: first(about?.html_url, about?.url),
    };
}

/** The first of these that is text. Nobody has promised what a payload holds. */
function first(...values) {
    return values.find((value) => typeof value === "string") ?? null;
}
