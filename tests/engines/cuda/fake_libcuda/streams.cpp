// Streams, events, captures and graphs: work waits here until somebody waits for it.
//
// The legacy stream and blocking ones order each other as CUDA says: work of one waits for what was
// put on the other before. A query lets one piece of work go on, so that polling comes to an end.
#include <chrono>

#include "driver.h"

namespace {

typedef std::chrono::steady_clock Clock;

struct Record {  // of an event on a stream
  Stream* stream;
  uint64_t number;
  bool is_done = false;
  Clock::time_point time;
};
struct Event {
  std::shared_ptr<Record> last;
};
struct Graph {
  std::vector<Work> work;
};

std::set<Event*> events;
std::set<Graph*> graphs, executables;
uint64_t numbers;

int run_through(Stream* stream, uint64_t last);

int run_before(Stream* stream, uint64_t number) {
  Context* context = stream->context;
  if (stream->is_legacy) {
    for (Stream* other : context->streams)
      if (!other->is_legacy && other->is_blocking)
        if (int code = run_through(other, number)) return code;
    return SUCCESS;
  }
  return stream->is_blocking ? run_through(&context->legacy, number) : SUCCESS;
}

int run_through(Stream* stream, uint64_t last) {
  Context* context = stream->context;
  while (!context->failed && !stream->queue.empty() && stream->queue.front().number <= last) {
    if (int code = run_before(stream, stream->queue.front().number)) return code;
    Item item = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (int code = item.work()) context->failed = code;
  }
  return context->failed;
}

void spoil(Context* context) {
  for (Stream* stream : context->streams)
    if (stream->capture) stream->capture->is_spoiled = true;
}

int record(Event* event, Stream* stream) {
  auto made = std::make_shared<Record>();
  made->stream = stream;
  made->number = next_number();
  event->last = made;
  Work work = [made] {
    made->is_done = true;
    made->time = Clock::now();
    return SUCCESS;
  };
  if (stream->capture) return put(stream, work);
  stream->queue.push_back({made->number, work});
  return SUCCESS;
}

int wait_for(const std::shared_ptr<Record>& last) {
  return last && !last->is_done ? run_through(last->stream, last->number) : SUCCESS;
}

int instantiate(Graph** executable, Graph* graph) {
  if (!graphs.count(graph)) return INVALID_HANDLE;
  *executable = new Graph(*graph);
  executables.insert(*executable);
  counter(EXECUTABLE_GRAPHS)++;
  return SUCCESS;
}

}  // namespace

uint64_t next_number() { return ++numbers; }

Stream* find_stream(Context* context, void* handle) {
  if ((size_t)handle <= 2) return &context->legacy;
  return context->streams.count((Stream*)handle) ? (Stream*)handle : nullptr;
}

int put(Stream* stream, Work work) {
  if (stream->capture) {
    stream->capture->work.push_back(std::move(work));
    return SUCCESS;
  }
  if (stream->is_legacy)
    for (Stream* other : stream->context->streams)
      if (other->capture && other->is_blocking) {
        other->capture->is_spoiled = true;
        return CAPTURE_IMPLICIT;
      }
  stream->queue.push_back({next_number(), std::move(work)});
  return SUCCESS;
}

int drain(Stream* stream) {
  const uint64_t last = next_number();
  if (int code = run_before(stream, last)) return code;
  return run_through(stream, last);
}

int drain_all(Context* context) {
  for (Stream* stream : context->streams)
    if (int code = run_through(stream, numbers)) return code;
  return SUCCESS;
}

int refuse_capture(Context* context) {
  for (Stream* stream : context->streams) {
    const Capture* capture = stream->capture.get();
    if (!capture || capture->mode == 2) continue;
    if (capture->mode == 1 && capture->thread != std::this_thread::get_id()) continue;
    spoil(context);
    return CAPTURE_UNSUPPORTED;
  }
  return SUCCESS;
}

void forget_streams(Context* context) {
  for (Stream* stream : context->streams)
    if (!stream->is_legacy) counter(STREAMS)--;
  context->streams.clear();
}

// ---- streams

DRIVER cuStreamCreate(Stream** stream, unsigned flags) {
  ENTER_CONTEXT
  *stream = new Stream{context, false, !(flags & 1), {}, nullptr};
  context->streams.insert(*stream);
  counter(STREAMS)++;
  return SUCCESS;
}
DRIVER cuStreamCreateWithPriority(Stream** stream, unsigned flags, int) {
  return cuStreamCreate(stream, flags);
}
DRIVER cuStreamDestroy_v2(Stream* handle) {
  ENTER_CONTEXT
  if (!context->streams.count(handle) || handle->is_legacy) return INVALID_HANDLE;
  if (int code = drain(handle)) return code;
  context->streams.erase(handle);
  counter(STREAMS)--;
  return SUCCESS;
}
DRIVER cuStreamSynchronize(void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->capture) return stream->capture->is_spoiled = true, CAPTURE_UNSUPPORTED;
  return drain(stream);
}
DRIVER cuStreamQuery(void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->queue.empty()) return SUCCESS;
  const int code = run_through(stream, stream->queue.front().number);
  return code ? code : NOT_READY;
}
DRIVER cuStreamWaitEvent(void* handle, Event* event, unsigned) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream || !events.count(event)) return INVALID_HANDLE;
  auto last = event->last;
  return put(stream, [last] { return wait_for(last); });
}

// ---- events

DRIVER cuEventCreate(Event** event, unsigned) {
  ENTER_CONTEXT
  *event = new Event;
  events.insert(*event);
  counter(EVENTS)++;
  return SUCCESS;
}
DRIVER cuEventDestroy_v2(Event* event) {
  ENTER_CONTEXT
  if (!events.erase(event)) return INVALID_HANDLE;
  delete event;
  counter(EVENTS)--;
  return SUCCESS;
}
DRIVER cuEventRecord(Event* event, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  return stream && events.count(event) ? record(event, stream) : INVALID_HANDLE;
}
DRIVER cuEventSynchronize(Event* event) {
  ENTER_CONTEXT
  return events.count(event) ? wait_for(event->last) : INVALID_HANDLE;
}
DRIVER cuEventQuery(Event* event) {
  ENTER_CONTEXT
  if (!events.count(event)) return INVALID_HANDLE;
  if (!event->last || event->last->is_done) return SUCCESS;
  Stream* stream = event->last->stream;
  const int code = run_through(stream, stream->queue.front().number);
  return code ? code : NOT_READY;
}
static int elapsed(float* milliseconds, Event* start, Event* end) {
  if (!events.count(start) || !events.count(end) || !start->last || !end->last) return INVALID_HANDLE;
  if (!start->last->is_done || !end->last->is_done) return NOT_READY;
  const std::chrono::duration<float, std::milli> passed = end->last->time - start->last->time;
  *milliseconds = passed.count();
  return SUCCESS;
}
DRIVER cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
  ENTER_CONTEXT
  return elapsed(milliseconds, start, end);
}
DRIVER cuEventElapsedTime_v2(float* milliseconds, Event* start, Event* end) {
  ENTER_CONTEXT
  return elapsed(milliseconds, start, end);
}

// ---- captures and graphs

DRIVER cuStreamBeginCapture_v2(void* handle, int mode) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->is_legacy || stream->capture) return CAPTURE_UNSUPPORTED;
  stream->capture.reset(new Capture{mode, std::this_thread::get_id(), false, {}});
  return SUCCESS;
}
DRIVER cuStreamEndCapture(void* handle, Graph** graph) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream || !stream->capture) return ILLEGAL_STATE;
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  *graph = nullptr;
  if (capture->is_spoiled) return CAPTURE_INVALIDATED;
  *graph = new Graph{capture->work};
  graphs.insert(*graph);
  counter(GRAPHS)++;
  return SUCCESS;
}
DRIVER cuStreamIsCapturing(void* handle, int* status) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream) return INVALID_HANDLE;
  *status = !stream->capture ? 0 : stream->capture->is_spoiled ? 2 : 1;
  return SUCCESS;
}
DRIVER cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
  ENTER_CONTEXT
  return instantiate(executable, graph);
}
DRIVER cuGraphInstantiate_v2(Graph** executable, Graph* graph, void**, char*, size_t) {
  ENTER_CONTEXT
  return instantiate(executable, graph);
}
DRIVER cuGraphUpload(Graph* executable, void*) {
  ENTER_CONTEXT
  return executables.count(executable) ? SUCCESS : INVALID_HANDLE;
}
DRIVER cuGraphLaunch(Graph* executable, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream || !executables.count(executable)) return INVALID_HANDLE;
  counter(GRAPH_LAUNCHES)++;
  for (const Work& work : executable->work)
    if (int code = put(stream, work)) return code;
  return SUCCESS;
}
DRIVER cuGraphExecDestroy(Graph* executable) {
  ENTER  // no context's, by cuda.h: a lost one does not take it along
  if (!executables.erase(executable)) return INVALID_HANDLE;
  delete executable;
  counter(EXECUTABLE_GRAPHS)--;
  return SUCCESS;
}
DRIVER cuGraphDestroy(Graph* graph) {
  ENTER  // no context's, by cuda.h: a lost one does not take it along
  if (!graphs.erase(graph)) return INVALID_HANDLE;
  delete graph;
  counter(GRAPHS)--;
  return SUCCESS;
}
DRIVER cuGraphGetNodes(Graph* graph, void**, size_t* count) {
  ENTER_CONTEXT
  if (!graphs.count(graph)) return INVALID_HANDLE;
  *count = graph->work.size();
  return SUCCESS;
}
