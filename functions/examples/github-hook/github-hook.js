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
    const repository = payload.repository?.full_name ?? null;
    const data = {
        event: name,
        action: payload.action ?? null,
        repository,
        organization: payload.organization?.login ?? null,
        sender: payload.sender?.login ?? null,
        ...what(payload),
    };
    emit("github.event", data, { subject: repository ?? data.organization ?? data.sender ?? name });
    log.info(`${name} ${data.action ?? ""}`.trim(), { repository: repository ?? "-" });
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
        payload.repository ??
        {};
    return {
        title: about.title ?? about.name ?? about.message ?? about.full_name ?? null,
        url: about.html_url ?? about.url ?? null,
    };
}
