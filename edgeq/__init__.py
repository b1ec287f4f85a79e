"""edgeq: a float .tflite model dropped on an edge box -> a verified INT8 engine that serves.

The house. Imports point down this list and never up. Under each room stand its modules, in the
order of reading; the first line of each says what goes in and what comes out.

    __main__.py   python -m edgeq
                  -- composition --
    cli/          the commands; the only place that prints and exits
                      arguments output inputs client box devices building tables measuring
                      reporting remote samples
    daemon/       owns every thread, child process and signal: startup -> loop -> shutdown
                      loop supervision arrivals starts heartbeat stacks folder clock faults events
                      retries taking frontends spare_socket deployer setbacks models failures
                      deployment drops signatures copies interface publisher rebuilding erasing
                      dropped loading probation jobs builder child plane uploads capture watching
                      drift recalibration episodes series admin status
    build/        float model + samples -> bundle: calibrate, choose, refine, prove, write
                      pipeline options work conditions forms layers fidelity refining gate
                      parts mixes difference comparison mixed deploying baseline bundling
    config/       YAML and environment -> Config, and from it each stage's own Options
                      schema server fields document load validation sidecar changes
                      web_config cautions
                  -- stages, the last of the data flow first --
    serve/        requests -> Engine: what all protocols share
                      server listening handover limits rights token_file loopback calls requests
                      parameters tensors shared_memory described data_plane statistics
    serve/http/   the Open Inference Protocol over HTTP/1.1
                      frontend handshake connection framing writing messages app router infer
                      request_body response_body content models repository regions page admin
                      threads answers
    serve/http/openapi/  the routes -> the OpenAPI description of all that is served over HTTP
                      document operations schemas
    serve/grpc/   the same over gRPC
                      frontend held_port library_log credentials gate peers service infer
                      stream request_message response_message models repository regions
                      messages schema status
    intake/       drop folder -> admitted model, or quarantine
                      watch hints names companion admit signature content damage
                      child answer probe sandbox seccomp syscalls landlock quarantine
    observe/      numbers and pictures for people and Prometheus
                      metrics drift_metrics durations board board_watch metrics_server web_access
                      passwords stages contact_sheet
    observe/report/   a bundle's parts -> its report, one page for people
                      page parts record verdict timing mapping layers tensors markup
    observe/charts/   numbers -> pictures: SVG made here
                      histogram curve codes rows depth marks
    observe/page/  the status page: what the daemon does -> a document, and updates of it
                      document overview model drifting chart words element
    drift/        live frames against those of calibration: how far, and is it chance?
                      stream options statistics window null reference limits state words monitor
                      streams activations health scales kept watch
    swap/         Slot: load, warm, self-check, switch, drain; probation
                      slot scheduler hangs done turn queue requests places batching pool options
                      probation shadow memory
    explain/      two models, a table, a few inputs -> what each tensor is like, each op costs
                      explain explanation tensors shapes twins layers comparison forced injected
                      weights words spread by_method
    verify.py     float model, Engine, held-out samples -> Verdict
    registry/     versions, events, live pointer, rollback: SQLite
                      registry records database migrations spare
    engines/      INT8 model -> Engine
                      base table origin cpu latency
    engines/cuda/  an INT8 .tflite -> kernels for one GPU -> the Engine that replays them
                      backend package engine launch targets
    engines/cuda/gpu/  the GPU of this box: is it there, its context, memory, faults
                      presence mending device driver faults context gpu_thread memory loaded
    engines/cuda/tuning/  a plan's choices -> the fastest on this device, remembered
                      tune remembered timing
    engines/cuda/compiling/  kernels -> CUDA C -> cubins, kept by their content
                      compile cache cubin nvrtc render
    engines/cuda/planning/  a program -> fused, laid out in one arena, a kernel for each node
                      plan plan_text chaining fusing joining tabulating borders layout aliasing
                      arena
    engines/cuda/binding/  a node and where its values lie -> the launches that may carry it out
                      table site chain channels convolution convolution_direct convolution_gather
                      convolution_lanes convolution_mma convolution_problem convolution_tiled
                      dense depthwise depthwise_tile elementwise epilogue estimate matrix_product
                      movement nest packing places pooling reducing resizing separable softmax
                      tail transposed
    engines/cuda/kernels/  the templates, in CUDA C, over one device layer
    engines/cuda/estimating/  a launch and a board -> how long it may take, and why
                      cost boards occupancy
    engines/cuda/lowering/  INT8 ops -> integer nodes; which ops the GPU takes
                      partition table graph assemble batches borders boxes confirm draft
                      elementwise lookups moves probe products ranges reductions resizes windows
    engines/cuda/program/  integer nodes, what they compute to the bit, and a check of both
                      nodes edges check reference batch scaling
    quantize/     float model + CalibrationTable -> INT8 model (.tflite)
                      choose noise shift convert equalize stretches refine rounding patches
                      sensitivity op_latency prepare pooling pairs plan joins sharing ranges
                      scheme affine compact
    calibrate/    float model + samples -> CalibrationTable
                      collect convergence representative survey tapped twins gather thinning
                      binning screen histogram methods entropy table archive reuse
    samples/      captured inputs: the server writes; calibrate, verify and drift read
                      store reservoir naming split decode image npz thumbnail sheet
    bundle.py     the directory that a build hands over
    tflite/       the model language every stage speaks: the TFLite flatbuffer
                      model names tap logits suppression part runtime structure flatbuffer
                      schema schema_tables
                  -- beneath everything --
    log.py        records -> lines for people, machines and the journal
    systemd.py    the service manager: states sent, sockets taken and left
    tls.py        certificate files -> the TLS contexts of servers and clients
    files.py      atomic write, fsync, digest, move
    allocator.py  the C library's memory: few arenas, free memory given back
    errors.py     the exception tree; each error carries a hint
"""

__version__ = "0.1.0"
