"""The table against the descriptors that NVIDIA's client was generated from."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from edgeq.serve.grpc.messages import Messages
from edgeq.serve.grpc.schema import ENUMS, MESSAGES, RPCS, SERVICE

SERVICES = service_pb2.DESCRIPTOR.services_by_name


def theirs(name: str) -> Descriptor:
    outer, *nested = name.split(".")
    messages = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }
    found = messages[outer]
    for each in nested:
        found = found.nested_types_by_name[each]
    return found


def meaning(field: FieldDescriptor) -> dict[str, Any]:
    """What of a field decides how it is written on the wire and how it is used."""
    group = field.containing_oneof
    return {
        "number": field.number,
        "type": field.type,
        "is_repeated": field.is_repeated,
        "message": field.message_type and field.message_type.full_name,
        "enum": field.enum_type and field.enum_type.full_name,
        "oneof": group and group.name,
        "is_packed": field.is_packed,
    }


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_fields_of_the_protocols_own(name: str) -> None:
    ours, known = Messages()[name].DESCRIPTOR, theirs(name)
    assert ours.full_name == known.full_name
    for field in ours.fields:
        assert meaning(field) == meaning(known.fields_by_name[field.name]), field.name
    for entry in ours.nested_types:
        assert (
            entry.GetOptions().map_entry
            == known.nested_types_by_name[entry.name].GetOptions().map_entry
        )


@pytest.mark.parametrize(
    "name", [name for name in MESSAGES if not name.startswith(("ModelConfig", "Trace", "Log"))]
)
def test_nothing_of_a_message_that_is_answered_is_left_out(name: str) -> None:
    if name in ("ModelInput", "ModelOutput", "ModelVersionPolicy"):
        pytest.skip("a part of the configuration, of which edgeq tells what it has")
    ours = Messages()[name].DESCRIPTOR
    assert set(ours.fields_by_name) == set(theirs(name).fields_by_name)


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_numbers_of_the_protocols_own(name: str) -> None:
    known = model_config_pb2.DESCRIPTOR.enum_types_by_name[name]
    assert {value.name: value.number for value in known.values} == {
        value: number for number, value in enumerate(ENUMS[name])
    }


def test_every_call_of_the_service_is_there_with_its_messages() -> None:
    known = SERVICES["GRPCInferenceService"]
    assert known.full_name == SERVICE
    assert {
        method.name: (method.input_type.name, method.output_type.name, method.server_streaming)
        for method in known.methods
    } == {rpc.name: (rpc.request_message, rpc.response_message, rpc.is_stream) for rpc in RPCS}


def test_a_response_is_read_by_the_generated_classes() -> None:
    ours = Messages()["ModelInferResponse"](model_name="m", raw_output_contents=[b"12"])
    ours.parameters["p"].int64_param = 5
    read = service_pb2.ModelInferResponse.FromString(ours.SerializeToString())
    assert (read.model_name, read.raw_output_contents[0]) == ("m", b"12")
    assert read.parameters["p"].int64_param == 5
