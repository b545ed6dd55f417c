-- wrk -s load.lua URL -- BODIES: posts the bodies (one a line) in turn, prints one line of JSON.
-- The requests are written before the load begins: what the generator computes, the server cannot.
local posts, next_post = {}, 0

function init(args)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    for line in io.lines(args[1]) do posts[#posts + 1] = wrk.format(nil, nil, nil, line) end
end

function request()
    next_post = next_post % #posts + 1
    return posts[next_post]
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests": %d, "seconds": %f, "errors": %d, "p50": %f, "p90": %f, "p99": %f}\n',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
