"""The protocol's messages, made of `inference.descriptors` in a pool of their own.

Generated modules register in the pool that the process shares, where a second `inference.proto`, such as that of
`tritonclient`, is an error. The types are in `messages.pyi`, which is generated.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(
    Path(__file__).with_name("inference.descriptors").read_bytes()
).file:
    _pool.Add(_file)

DESCRIPTOR = _pool.FindFileByName("inference.proto")

globals().update({name: GetMessageClass(found) for name, found in DESCRIPTOR.message_types_by_name.items()})
