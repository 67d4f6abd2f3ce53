"""Fluvio's own Python client against a cluster: everything it offers, each answer compared with what it must be.

    fluvio_client.py HOST:PORT FILTER

HOST:PORT is the controller's address, FILTER a file with a SmartModule that keeps the records of a batch whose index
is divisible by its parameter. What this makes has names of its own and is removed at the end. Exit code 0: all is well.
"""

import asyncio
import faulthandler
import gzip
import itertools
import os
import sys
import tempfile
import time
import uuid

from fluvio import (
    Compression,
    ConsumerConfig,
    ConsumerConfigExtBuilder,
    DeliverySemantic,
    Fluvio,
    FluvioAdmin,
    FluvioConfig,
    Isolation,
    Offset,
    OffsetManagementStrategy,
    TopicProducerConfigBuilder,
    TopicSpec,
)

PATIENCE_S = 300
# A real controller now and then does not answer, and what it creates then is of no use.
CREATIONS = 5
PROFILE = """version = "2.0"
current_profile = "test"
[profile.test]
cluster = "test"
[cluster.test]
endpoint = "{endpoint}"
[cluster.test.tls]
tls_policy = "disabled"
"""


def main(endpoint, filter_path):
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    config = FluvioConfig.new(endpoint)
    admin, client = FluvioAdmin.connect_with_config(config), Fluvio.connect_with_config(config)
    profile_is_found(endpoint)
    topics_are_created_listed_and_deleted(admin, config)
    for scenario in (
        records_come_back_as_they_were_sent,
        keys_choose_the_partition,
        every_compression_and_setting_of_a_producer,
        streams_start_where_they_are_told,
        a_stream_goes_on_with_what_comes_later,
        asynchronous_calls,
        consumer_offsets_are_kept_listed_and_deleted,
    ):
        with_topic(config, scenario, client)
    with_topic(config, a_smartmodule_sent_along, client, filter_path)
    a_smartmodule_of_the_cluster(config, client, filter_path)
    print("all is well")


def with_topic(config, scenario, client, *more):
    """Runs a scenario on a topic with two partitions."""
    admin, topic = created(config)
    print(scenario.__name__, flush=True)
    try:
        scenario(client, topic, *more)
    finally:
        admin.delete_topic(topic)


def created(config):
    """A topic, and a connection that works: one whose request was not answered does not answer any more."""
    for left in reversed(range(CREATIONS)):
        admin, topic = FluvioAdmin.connect_with_config(config), name("topic")
        try:
            admin.create_topic(topic, TopicSpec.create().with_partitions(2).build())
            return admin, topic
        except Exception as error:  # The client raises more than one kind.
            if "Timed out" not in str(error) or not left:
                raise
            print(f"the answer to the creation of {topic} did not come", flush=True)


def name(kind):
    return f"python-{kind}-{uuid.uuid4().hex[:12]}"


def refused(call, words):
    """The call must fail, for this reason."""
    try:
        call()
    except Exception as error:  # The client raises more than one kind.
        assert words in str(error), error
    else:
        raise AssertionError(f"not refused: {words}")


def sent(client, topic, values, partition=0):
    """Sends values to a partition one after the other; their offsets."""
    config = TopicProducerConfigBuilder().set_specific_partitioner(partition).build()
    producer = client.topic_producer_with_config(topic, config)
    outputs = [producer.send(b"", value.encode()) for value in values]
    producer.flush()
    return [output.wait().offset() for output in outputs]


def reading(topic, start, partition=0):
    builder = ConsumerConfigExtBuilder(topic)
    builder.partition(partition)
    builder.offset_start(start)
    return builder


def read_to_end(client, builder):
    builder.disable_continuous()
    return list(client.consumer_with_config(builder.build()))


def values(records):
    return [record.value_string() for record in records]


def profile_is_found(endpoint):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as profile:
        profile.write(PROFILE.format(endpoint=endpoint))
        profile.flush()
        os.environ["FLV_PROFILE_PATH"] = profile.name
        FluvioConfig.load()
        Fluvio.connect()
        assert isinstance(FluvioAdmin.connect().all_topics(), list)
        del os.environ["FLV_PROFILE_PATH"]


def topics_are_created_listed_and_deleted(admin, config):
    first, second = name("first"), name("second")
    spec = TopicSpec.create().with_partitions(3).with_retention_time(86_400).with_segment_size("16MB").build()
    admin.create_topic(first, spec)
    admin.create_topic(second)
    refused(lambda: admin.create_topic(first), "already exists")
    refused(lambda: admin.create_topic("No_Name", spec), "")
    listed = [topic.name() for topic in admin.all_topics()]
    assert first in listed and second in listed, listed
    assert [topic.name() for topic in admin.list_topics([second])] == [second]
    partitions = {partition.name() for partition in admin.list_partitions([])}
    assert {f"{first}-{index}" for index in range(3)} | {f"{second}-0"} <= partitions, partitions
    # On a connection of its own: a watch that is not read on holds up, in the client, all else on its connection.
    told = next(FluvioAdmin.connect_with_config(config).watch_topic())
    assert {first, second} <= {topic.name() for topic in told.all()}
    for topic in first, second:
        admin.delete_topic(topic)
    assert admin.list_topics([first, second]) == []
    refused(lambda: admin.delete_topic(first), "not found")


def records_come_back_as_they_were_sent(client, topic):
    before = int(time.time() * 1000)
    config = TopicProducerConfigBuilder().set_specific_partitioner(1).build()
    producer = client.topic_producer_with_config(topic, config)
    long = "long " * 100_000
    outputs = [producer.send_string("plain"), producer.send(b"key", "ключ и значение".encode())]
    outputs += producer.send_all([(b"batch", str(index).encode()) for index in range(100)])
    outputs.append(producer.send_string(long))
    producer.flush()
    acknowledged = [output.wait() for output in outputs]
    assert [(each.partition_id(), each.offset()) for each in acknowledged] == [(1, offset) for offset in range(103)]
    records = read_to_end(client, reading(topic, Offset.beginning(), 1))
    assert [record.offset() for record in records] == list(range(103))
    assert values(records) == ["plain", "ключ и значение", *map(str, range(100)), long]
    assert records[1].key_string() == "key" and bytes(records[2].key()) == b"batch"
    assert bytes(records[1].value()).decode() == "ключ и значение"
    assert all(before - 1000 <= record.timestamp() <= time.time() * 1000 + 1000 for record in records)
    assert read_to_end(client, reading(topic, Offset.beginning(), 0)) == []


def keys_choose_the_partition(client, topic):
    producer = client.topic_producer(topic)
    outputs = producer.send_all([(str(index % 20).encode(), str(index).encode()) for index in range(200)])
    producer.flush()
    places = [output.wait().partition_id() for output in outputs]
    assert set(places) == {0, 1}
    assert all(places[index] == places[index % 20] for index in range(200))
    every = client.multi_topic_partition_consumer([(topic, 0), (topic, 1)]).stream(Offset.beginning())
    assert sorted(map(int, values(itertools.islice(every, 200)))) == list(range(200))


def every_compression_and_setting_of_a_producer(client, topic):
    expected = []
    for compression in Compression.None_, Compression.Gzip, Compression.Snappy, Compression.Lz4, Compression.Zstd:
        for isolation in Isolation.ReadCommitted, Isolation.ReadUncommitted:
            config = TopicProducerConfigBuilder().compression(compression).isolation(isolation).linger(1)
            config = config.batch_size(4096).delivery_semantic(DeliverySemantic.AtLeastOnce).set_specific_partitioner(0)
            producer = client.topic_producer_with_config(topic, config.build())
            batch = [f"{compression} {isolation} {index}" for index in range(300)]
            outputs = producer.send_all([(b"k", value.encode()) for value in batch])
            producer.flush()
            assert [output.wait().offset() for output in outputs] == [len(expected) + index for index in range(300)]
            expected += batch
    assert values(read_to_end(client, reading(topic, Offset.beginning()))) == expected


def streams_start_where_they_are_told(client, topic):
    assert sent(client, topic, map(str, range(50))) == list(range(50))
    for start, first in (
        (Offset.beginning(), 0),
        (Offset.from_beginning(7), 7),
        (Offset.absolute(13), 13),
        (Offset.from_end(2), 48),
        (Offset.end(), 50),
    ):
        records = read_to_end(client, reading(topic, start))
        assert [record.offset() for record in records] == list(range(first, 50))
        assert values(records) == list(map(str, range(first, 50)))
    older = client.partition_consumer(topic, 0).stream(Offset.absolute(40))
    assert values(itertools.islice(older, 10)) == list(map(str, range(40, 50)))


def a_stream_goes_on_with_what_comes_later(client, topic):
    sent(client, topic, ["old"])
    stream = client.consumer_with_config(reading(topic, Offset.beginning()).build())
    assert next(stream).value_string() == "old"
    for value in "new", "newer":
        sent(client, topic, [value])
        assert next(stream).value_string() == value


def asynchronous_calls(client, topic):
    async def converse():
        producer = client.topic_producer(topic)
        outputs = [await producer.async_send(b"key", b"one"), await producer.async_send_string("two")]
        outputs += await producer.async_send_all([(b"key", b"three")])
        await producer.async_flush()
        places = [await output.async_wait() for output in outputs]
        partition = places[0].partition_id()
        stream = await client.partition_consumer(topic, partition).async_stream(Offset.beginning())
        async for record in stream:
            return record

    record = asyncio.run(converse())
    assert (record.key_string(), record.value_string()) == ("key", "one")


def consumer_offsets_are_kept_listed_and_deleted(client, topic):
    sent(client, topic, map(str, range(20)))
    consumer = name("consumer")

    def stream(strategy):
        builder = reading(topic, Offset.beginning())
        builder.offset_consumer(consumer)
        builder.offset_strategy(strategy)
        return client.consumer_with_config(builder.build())

    first = stream(OffsetManagementStrategy.MANUAL)
    assert values(itertools.islice(first, 8)) == list(map(str, range(8)))
    first.offset_commit()
    first.offset_flush()
    kept = [each for each in client.consumer_offsets() if each.consumer_id == consumer]
    assert [(each.topic, each.partition, each.offset) for each in kept] == [(topic, 0, 7)]
    assert abs(kept[0].modified_time - time.time()) < 3600
    again = stream(OffsetManagementStrategy.MANUAL)
    assert next(again).value_string() == "8"
    client.delete_consumer_offset(consumer, topic, 0)
    assert all(each.consumer_id != consumer for each in client.consumer_offsets())
    assert next(stream(OffsetManagementStrategy.NONE)).value_string() == "0"


def a_smartmodule_sent_along(client, topic, filter_path):
    filtered(client, topic, path=filter_path)


def a_smartmodule_of_the_cluster(config, client, filter_path):
    admin = FluvioAdmin.connect_with_config(config)
    module = name("module")
    # Clusters keep modules compressed, and this client sends the file as it is.
    with open(filter_path, "rb") as source, tempfile.NamedTemporaryFile(suffix=".wasm.gz") as packed:
        packed.write(gzip.compress(source.read()))
        packed.flush()
        admin.create_smartmodule(module, packed.name, False)
    try:
        assert [each.name() for each in admin.list_smartmodules([module])] == [module]
        with_topic(config, filtered, client, None, module)
    finally:
        admin.delete_smartmodule(module)
    assert admin.list_smartmodules([module]) == []


def filtered(client, topic, path=None, module=None):
    config = TopicProducerConfigBuilder().linger(10_000).set_specific_partitioner(0).build()
    producer = client.topic_producer_with_config(topic, config)
    producer.send_all([(b"", str(index).encode()) for index in range(10)])
    producer.flush()
    config = ConsumerConfig()
    config.disable_continuous()
    config.smartmodule(name=module, path=path, params={"n": "4"})
    records = client.partition_consumer(topic, 0).stream_with_config(Offset.beginning(), config)
    assert values(records) == ["0", "4", "8"]


if __name__ == "__main__":
    main(*sys.argv[1:])
