//! What `bench-handler` is for the contract, for wasi:http: it is given a request, takes its body in, and answers 204. It
//! runs in the bare host that the benchmarks measure the engine beside, and is built as components for `wasmtime serve`
//! are: without the SDK.

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam},
};

/// As much of a body as is read at a time.
const READ: u64 = 64 << 10;

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if let Ok(body) = request.consume()
            && let Ok(stream) = body.stream()
        {
            // The end is an error.
            while stream.blocking_read(READ).is_ok() {}
        }
        let response = OutgoingResponse::new(Fields::new());
        let known = response.set_status_code(204);
        ResponseOutparam::set(
            out,
            known
                .map(|()| response)
                .map_err(|()| wasip2::http::types::ErrorCode::InternalError(None)),
        );
    }
}

wasip2::http::proxy::export!(Handler);
