-- For wrk, one connection a thread: each sends the questions in turn and checks each answer.
-- wrk -t N -c N -s serve_load.lua URL -- questions.lua

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  questions = dofile(arguments[1]) -- {body, digit, confidence} each
  answered, wrong = 0, 0
end

function request()
  -- The threads begin at different questions, so that swapped answers show.
  local question = questions[(7 * number + answered) % #questions + 1]
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, question.body)
end

function response(status, headers, body)
  local question = questions[(7 * number + answered) % #questions + 1]
  local digit = tonumber(body:match('"digit":(%d)'))
  local confidence = tonumber(body:match('"confidence":([%d.e+-]+)'))
  if status ~= 200 or digit ~= question.digit
      or math.abs(confidence - question.confidence) > 1e-3 then
    wrong = wrong + 1
  end
  answered = answered + 1
end

function done(summary, latency, requests)
  local wrong = 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
  end
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "wrong": %d, "lost": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, wrong, lost))
end
