-- A load test with wrk, for those who have it already; `maas bench` needs nothing besides and says more.
--
--     wrk -t1 -c16 -d10s -s benchmarks/wrk.lua http://localhost:8000/predict/longley -- '{"features": [83.0, 234289, 2356, 1590, 107608, 1947]}'
--
-- Every request is a POST of that body as JSON. Behind wrk's own report stands a line of JSON: what was answered, and what failed.

function init(arguments)
  wrk.method = "POST"
  wrk.body = arguments[1] or error("say the body behind --, as JSON")
  wrk.headers["Content-Type"] = "application/json"
  request_bytes = wrk.format()
end

function request()
  return request_bytes
end

function done(summary)
  local errors = summary.errors
  print(string.format('{"requests": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}',
    summary.requests, errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
