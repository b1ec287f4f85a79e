"""The messages and calls of inference.GRPCInferenceService, written down as a table.

Each line of a message is a field as protobuf's own language writes it: `[repeated] TYPE NAME =
NUMBER`, `map TYPE NAME = NUMBER` for a map from strings, and `oneof GROUP: TYPE NAME = NUMBER` for
one choice of a group. A dot in a message's name nests it. Numbers and types are those of the Open
Inference Protocol with Triton's extensions; a field that edgeq neither reads nor fills is left out
where a whole subtree hangs on it, and skipped by protobuf as an unknown one.
"""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"


@dataclass(frozen=True)
class Rpc:
    """One call; the messages are named after it where nothing else is said."""

    name: str
    request: str = ""
    response: str = ""
    is_stream: bool = False  # both ways

    @property
    def request_message(self) -> str:
        """The name of what comes in."""
        return self.request or f"{self.name}Request"

    @property
    def response_message(self) -> str:
        """The name of what goes out."""
        return self.response or f"{self.name}Response"


RPCS = (
    Rpc("ServerLive"),
    Rpc("ServerReady"),
    Rpc("ServerMetadata"),
    Rpc("ModelReady"),
    Rpc("ModelMetadata"),
    Rpc("ModelConfig"),
    Rpc("ModelStatistics"),
    Rpc("ModelInfer"),
    Rpc("ModelStreamInfer", "ModelInferRequest", is_stream=True),
    Rpc("RepositoryIndex"),
    Rpc("RepositoryModelLoad"),
    Rpc("RepositoryModelUnload"),
    Rpc("SystemSharedMemoryStatus"),
    Rpc("SystemSharedMemoryRegister"),
    Rpc("SystemSharedMemoryUnregister"),
    Rpc("CudaSharedMemoryStatus"),
    Rpc("CudaSharedMemoryRegister"),
    Rpc("CudaSharedMemoryUnregister"),
    Rpc("TraceSetting"),
    Rpc("LogSettings"),
)

ENUMS = {
    "DataType": (
        "TYPE_INVALID",
        "TYPE_BOOL",
        "TYPE_UINT8",
        "TYPE_UINT16",
        "TYPE_UINT32",
        "TYPE_UINT64",
        "TYPE_INT8",
        "TYPE_INT16",
        "TYPE_INT32",
        "TYPE_INT64",
        "TYPE_FP16",
        "TYPE_FP32",
        "TYPE_FP64",
        "TYPE_STRING",
        "TYPE_BF16",
    ),
}

_NAME_AND_VERSION = """
    string name = 1
    string version = 2
"""

MESSAGES = {
    # ---- health and metadata
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": """
        string name = 1
        string version = 2
        repeated string extensions = 3
    """,
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": "bool ready = 1",
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "ModelMetadataResponse": """
        string name = 1
        repeated string versions = 2
        string platform = 3
        repeated ModelMetadataResponse.TensorMetadata inputs = 4
        repeated ModelMetadataResponse.TensorMetadata outputs = 5
    """,
    "ModelMetadataResponse.TensorMetadata": """
        string name = 1
        string datatype = 2
        repeated int64 shape = 3
    """,
    # ---- infer
    "InferParameter": """
        oneof parameter_choice: bool bool_param = 1
        oneof parameter_choice: int64 int64_param = 2
        oneof parameter_choice: string string_param = 3
        oneof parameter_choice: double double_param = 4
        oneof parameter_choice: uint64 uint64_param = 5
    """,
    "InferTensorContents": """
        repeated bool bool_contents = 1
        repeated int32 int_contents = 2
        repeated int64 int64_contents = 3
        repeated uint32 uint_contents = 4
        repeated uint64 uint64_contents = 5
        repeated float fp32_contents = 6
        repeated double fp64_contents = 7
        repeated bytes bytes_contents = 8
    """,
    "ModelInferRequest": """
        string model_name = 1
        string model_version = 2
        string id = 3
        map InferParameter parameters = 4
        repeated ModelInferRequest.InferInputTensor inputs = 5
        repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6
        repeated bytes raw_input_contents = 7
    """,
    "ModelInferRequest.InferInputTensor": """
        string name = 1
        string datatype = 2
        repeated int64 shape = 3
        map InferParameter parameters = 4
        InferTensorContents contents = 5
    """,
    "ModelInferRequest.InferRequestedOutputTensor": """
        string name = 1
        map InferParameter parameters = 2
    """,
    "ModelInferResponse": """
        string model_name = 1
        string model_version = 2
        string id = 3
        map InferParameter parameters = 4
        repeated ModelInferResponse.InferOutputTensor outputs = 5
        repeated bytes raw_output_contents = 6
    """,
    "ModelInferResponse.InferOutputTensor": """
        string name = 1
        string datatype = 2
        repeated int64 shape = 3
        map InferParameter parameters = 4
        InferTensorContents contents = 5
    """,
    "ModelStreamInferResponse": """
        string error_message = 1
        ModelInferResponse infer_response = 2
    """,
    # ---- configuration
    "ModelConfigRequest": _NAME_AND_VERSION,
    "ModelConfigResponse": "ModelConfig config = 1",
    "ModelConfig": """
        string name = 1
        string platform = 2
        ModelVersionPolicy version_policy = 3
        int32 max_batch_size = 4
        repeated ModelInput input = 5
        repeated ModelOutput output = 6
        map ModelParameter parameters = 14
        string backend = 17
    """,
    "ModelVersionPolicy": "oneof policy_choice: ModelVersionPolicy.Latest latest = 1",
    "ModelVersionPolicy.Latest": "uint32 num_versions = 1",
    "ModelInput": """
        string name = 1
        DataType data_type = 2
        repeated int64 dims = 4
    """,
    "ModelOutput": """
        string name = 1
        DataType data_type = 2
        repeated int64 dims = 3
    """,
    "ModelParameter": "string string_value = 1",
    # ---- statistics
    "ModelStatisticsRequest": _NAME_AND_VERSION,
    "ModelStatisticsResponse": "repeated ModelStatistics model_stats = 1",
    "ModelStatistics": """
        string name = 1
        string version = 2
        uint64 last_inference = 3
        uint64 inference_count = 4
        uint64 execution_count = 5
        InferStatistics inference_stats = 6
        repeated InferBatchStatistics batch_stats = 7
        repeated MemoryUsage memory_usage = 8
        map InferResponseStatistics response_stats = 9
    """,
    "StatisticDuration": """
        uint64 count = 1
        uint64 ns = 2
    """,
    "InferStatistics": """
        StatisticDuration success = 1
        StatisticDuration fail = 2
        StatisticDuration queue = 3
        StatisticDuration compute_input = 4
        StatisticDuration compute_infer = 5
        StatisticDuration compute_output = 6
        StatisticDuration cache_hit = 7
        StatisticDuration cache_miss = 8
    """,
    "InferResponseStatistics": """
        StatisticDuration compute_infer = 1
        StatisticDuration compute_output = 2
        StatisticDuration success = 3
        StatisticDuration fail = 4
        StatisticDuration empty_response = 5
        StatisticDuration cancel = 6
    """,
    "InferBatchStatistics": """
        uint64 batch_size = 1
        StatisticDuration compute_input = 2
        StatisticDuration compute_infer = 3
        StatisticDuration compute_output = 4
    """,
    "MemoryUsage": """
        string type = 1
        int64 id = 2
        uint64 byte_size = 3
    """,
    # ---- repository
    "ModelRepositoryParameter": """
        oneof parameter_choice: bool bool_param = 1
        oneof parameter_choice: int64 int64_param = 2
        oneof parameter_choice: string string_param = 3
        oneof parameter_choice: bytes bytes_param = 4
    """,
    "RepositoryIndexRequest": """
        string repository_name = 1
        bool ready = 2
    """,
    "RepositoryIndexResponse": "repeated RepositoryIndexResponse.ModelIndex models = 1",
    "RepositoryIndexResponse.ModelIndex": """
        string name = 1
        string version = 2
        string state = 3
        string reason = 4
    """,
    "RepositoryModelLoadRequest": """
        string repository_name = 1
        string model_name = 2
        map ModelRepositoryParameter parameters = 3
    """,
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": """
        string repository_name = 1
        string model_name = 2
        map ModelRepositoryParameter parameters = 3
    """,
    "RepositoryModelUnloadResponse": "",
    # ---- shared memory
    "SystemSharedMemoryStatusRequest": "string name = 1",
    "SystemSharedMemoryStatusResponse": """
        map SystemSharedMemoryStatusResponse.RegionStatus regions = 1
    """,
    "SystemSharedMemoryStatusResponse.RegionStatus": """
        string name = 1
        string key = 2
        uint64 offset = 3
        uint64 byte_size = 4
    """,
    "SystemSharedMemoryRegisterRequest": """
        string name = 1
        string key = 2
        uint64 offset = 3
        uint64 byte_size = 4
    """,
    "SystemSharedMemoryRegisterResponse": "",
    "SystemSharedMemoryUnregisterRequest": "string name = 1",
    "SystemSharedMemoryUnregisterResponse": "",
    "CudaSharedMemoryStatusRequest": "string name = 1",
    "CudaSharedMemoryStatusResponse": """
        map CudaSharedMemoryStatusResponse.RegionStatus regions = 1
    """,
    "CudaSharedMemoryStatusResponse.RegionStatus": """
        string name = 1
        uint64 device_id = 2
        uint64 byte_size = 3
    """,
    "CudaSharedMemoryRegisterRequest": """
        string name = 1
        bytes raw_handle = 2
        int64 device_id = 3
        uint64 byte_size = 4
    """,
    "CudaSharedMemoryRegisterResponse": "",
    "CudaSharedMemoryUnregisterRequest": "string name = 1",
    "CudaSharedMemoryUnregisterResponse": "",
    # ---- settings: refused, so only what the request is about
    "TraceSettingRequest": "string model_name = 2",
    "TraceSettingResponse": "",
    "LogSettingsRequest": "",
    "LogSettingsResponse": "",
}
