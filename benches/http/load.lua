-- For wrk, with one thread: sends the requests of a file, each once and from then on at random, and counts the answers by
-- their status.
--
-- Arguments: the file, in which requests follow each other with a NUL between them; what the body of every good answer
-- has; and a number from which the random choices follow.

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    local file = assert(io.open(args[1], "rb"))
    local text = file:read("*a")
    file:close()
    requests = {}
    for one in text:gmatch("[^%z]+") do
        requests[#requests + 1] = one
    end
    mark = args[2]
    math.randomseed(tonumber(args[3]))
    -- wrk asks for a request once before it begins, and does not send that.
    sent = -1
    -- Answers by status, such as 200, and those of 200 that do not have what they must.
    statuses = {}
    wrong = 0
    example = ""
end

function request()
    sent = sent + 1
    return requests[math.max(sent, 1)] or requests[math.random(#requests)]
end

function response(status, headers, body)
    statuses[status] = (statuses[status] or 0) + 1
    local good = status == 200 and body:find(mark, 1, true)
    if status == 200 and not good then
        wrong = wrong + 1
    end
    if not good and example == "" then
        example = status .. " " .. body:sub(1, 300)
    end
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency, _)
    local by_status, bad, first = {}, 0, ""
    for _, thread in ipairs(threads) do
        for status, count in pairs(thread:get("statuses")) do
            by_status[status] = (by_status[status] or 0) + count
        end
        bad = bad + thread:get("wrong")
        if first == "" then
            first = thread:get("example")
        end
    end
    local list = {}
    for status, count in pairs(by_status) do
        list[#list + 1] = string.format('"%d":%d', status, count)
    end
    local e = summary.errors
    io.write(string.format(
        'RESULT {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"longest_ms":%.3f,' ..
        '"statuses":{%s},"wrong":%d,"socket_errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d},"example":%s}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
        latency:percentile(99) / 1e3, latency.max / 1e3, table.concat(list, ","), bad, e.connect, e.read, e.write,
        e.timeout, quoted(first)))
end
