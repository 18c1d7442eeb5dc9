// What the suites ask of Kafka's own Java client: one process that obeys lines of JSON on its
// standard input and answers with lines of JSON, the last of each answer being {"done":true} or
// {"error":"..."}. Bytes travel in hexadecimal; null stays null. Nothing is checked here: the suites
// decide what is right.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.Resource;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Tool {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long WAIT_SECONDS = 60;
    private static PrintWriter out;

    public static void main(String[] arguments) throws Exception {
        out = new PrintWriter(new BufferedWriter(
                new OutputStreamWriter(System.out, StandardCharsets.UTF_8), 1 << 16));
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            ObjectNode last = JSON.createObjectNode();
            try {
                obey(JSON.readTree(line));
                last.put("done", true);
            } catch (Exception error) {
                last.put("error", error.toString() + (error.getCause() == null ? ""
                        : ": " + error.getCause()));
            }
            out.println(last);
            out.flush();
        }
    }

    private static void obey(JsonNode ask) throws Exception {
        switch (ask.get("do").asText()) {
            case "create" -> create(ask);
            case "delete" -> delete(ask);
            case "grow" -> grow(ask);
            case "truncate" -> truncate(ask);
            case "deny" -> deny(ask);
            case "move" -> move(ask);
            case "topics" -> topics(ask);
            case "config" -> config(ask);
            case "produce" -> produce(ask);
            case "load" -> load(ask);
            case "dump" -> dump(ask);
            case "ends" -> ends(ask);
            case "committed" -> committed(ask);
            case "members" -> members(ask);
            case "member" -> member(ask);
            default -> throw new IllegalArgumentException("unknown: " + ask.get("do"));
        }
    }

    // --- topics ---------------------------------------------------------------------------------

    private static Admin admin(JsonNode ask) {
        return Admin.create(Map.of("bootstrap.servers", ask.get("bootstrap").asText()));
    }

    private static void create(JsonNode ask) throws Exception {
        String topic = ask.get("topic").asText();
        Map<String, String> config = strings(ask.get("config"));
        NewTopic wanted = new NewTopic(topic, ask.get("partitions").asInt(),
                (short) ask.path("replicas").asInt(1)).configs(config);
        try (Admin admin = admin(ask)) {
            admin.createTopics(List.of(wanted)).all().get(WAIT_SECONDS, TimeUnit.SECONDS);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
            while (!hasLeaders(admin, topic, wanted.numPartitions())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("no leaders for " + topic);
                }
                Thread.sleep(50);
            }
        }
    }

    private static boolean hasLeaders(Admin admin, String topic, int partitions) {
        try {
            TopicDescription description = admin.describeTopics(List.of(topic)).allTopicNames()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS).get(topic);
            return description.partitions().size() == partitions
                    && description.partitions().stream().allMatch(one -> one.leader() != null);
        } catch (Exception notYet) {
            return false;
        }
    }

    private static void delete(JsonNode ask) throws Exception {
        try (Admin admin = admin(ask)) {
            admin.deleteTopics(List.of(ask.get("topic").asText())).all()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS);
        }
    }

    private static void grow(JsonNode ask) throws Exception {
        String topic = ask.get("topic").asText();
        int partitions = ask.get("partitions").asInt();
        try (Admin admin = admin(ask)) {
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(partitions))).all()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS);
        }
    }

    // Deletes the records of a partition before an offset, as retention does.
    private static void move(JsonNode ask) throws Exception {
        TopicPartition partition =
                new TopicPartition(ask.get("topic").asText(), ask.get("partition").asInt());
        NewPartitionReassignment wanted =
                new NewPartitionReassignment(List.of(ask.get("to").asInt()));
        try (Admin admin = admin(ask)) {
            admin.alterPartitionReassignments(Map.of(partition, Optional.of(wanted))).all()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
            while (!admin.listPartitionReassignments().reassignments()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS).isEmpty()) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("not moved: " + partition);
                }
                Thread.sleep(50);
            }
        }
    }

    private static void truncate(JsonNode ask) throws Exception {
        TopicPartition partition =
                new TopicPartition(ask.get("topic").asText(), ask.get("partition").asInt());
        RecordsToDelete before = RecordsToDelete.beforeOffset(ask.get("before").asLong());
        try (Admin admin = admin(ask)) {
            admin.deleteRecords(Map.of(partition, before)).all()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS);
        }
    }

    // Everything is allowed but one operation: what a topic without any rule allows ends with the
    // first rule.
    private static void deny(JsonNode ask) throws Exception {
        ResourcePattern resource = ask.has("topic")
                ? new ResourcePattern(
                        ResourceType.TOPIC, ask.get("topic").asText(), PatternType.LITERAL)
                : new ResourcePattern(
                        ResourceType.CLUSTER, Resource.CLUSTER_NAME, PatternType.LITERAL);
        AclOperation operation = AclOperation.fromString(ask.get("operation").asText());
        try (Admin admin = admin(ask)) {
            admin.createAcls(List.of(
                    rule(resource, AclOperation.ALL, AclPermissionType.ALLOW),
                    rule(resource, operation, AclPermissionType.DENY)))
                    .all().get(WAIT_SECONDS, TimeUnit.SECONDS);
        }
    }

    private static AclBinding rule(
            ResourcePattern resource, AclOperation operation, AclPermissionType permission) {
        return new AclBinding(
                resource, new AccessControlEntry("User:*", "*", operation, permission));
    }

    private static void topics(JsonNode ask) throws Exception {
        try (Admin admin = admin(ask)) {
            Collection<String> names =
                    admin.listTopics().names().get(WAIT_SECONDS, TimeUnit.SECONDS);
            Map<String, TopicDescription> described = admin.describeTopics(names).allTopicNames()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS);
            for (TopicDescription topic : described.values()) {
                ObjectNode line = JSON.createObjectNode();
                line.put("topic", topic.name());
                line.put("partitions", topic.partitions().size());
                line.put("replicas", topic.partitions().get(0).replicas().size());
                out.println(line);
            }
        }
    }

    private static void config(JsonNode ask) throws Exception {
        ConfigResource topic =
                new ConfigResource(ConfigResource.Type.TOPIC, ask.get("topic").asText());
        try (Admin admin = admin(ask)) {
            admin.describeConfigs(List.of(topic)).all().get(WAIT_SECONDS, TimeUnit.SECONDS)
                    .get(topic).entries().forEach(entry -> {
                        ObjectNode line = JSON.createObjectNode();
                        line.put("name", entry.name());
                        line.put("value", entry.value());
                        out.println(line);
                    });
        }
    }

    // --- producing ------------------------------------------------------------------------------

    private static KafkaProducer<byte[], byte[]> producer(JsonNode ask) {
        Properties properties = new Properties();
        properties.putAll(strings(ask.get("config")));
        properties.putIfAbsent("bootstrap.servers", ask.get("bootstrap").asText());
        return new KafkaProducer<>(
                properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static void produce(JsonNode ask) throws Exception {
        String topic = ask.get("topic").asText();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(ask)) {
            if (strings(ask.get("config")).containsKey("transactional.id")) {
                producer.initTransactions();
            }
            for (JsonNode one : ask.get("records")) {
                switch (one.path("do").asText("send")) {
                    case "begin" -> producer.beginTransaction();
                    case "commit" -> producer.commitTransaction();
                    case "abort" -> {
                        producer.flush();
                        producer.abortTransaction();
                    }
                    case "flush" -> producer.flush();
                    default -> sent.add(producer.send(record(topic, one)));
                }
            }
            producer.flush();
        }
        for (Future<RecordMetadata> one : sent) {
            RecordMetadata acked = one.get(WAIT_SECONDS, TimeUnit.SECONDS);
            ObjectNode line = JSON.createObjectNode();
            line.put("partition", acked.partition());
            line.put("offset", acked.offset());
            out.println(line);
        }
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, JsonNode one) {
        List<Header> headers = new ArrayList<>();
        for (JsonNode header : one.path("headers")) {
            headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
        }
        Integer partition = one.hasNonNull("partition") ? one.get("partition").asInt() : null;
        Long timestamp = one.hasNonNull("timestamp") ? one.get("timestamp").asLong() : null;
        return new ProducerRecord<>(topic, partition, timestamp, bytes(one.get("key")),
                bytes(one.get("value")), headers);
    }

    // Numbered records at a steady rate; the number is the start of the value, a key's numbers rise.
    private static void load(JsonNode ask) throws Exception {
        String topic = ask.get("topic").asText();
        long first = ask.path("first").asLong(0);
        long count = ask.get("count").asLong();
        long keys = ask.path("keys").asLong(100);
        double rate = ask.path("rate").asDouble(0);
        byte[] padding = new byte[ask.path("size").asInt(100)];
        Arrays.fill(padding, (byte) '.');
        long begin = System.nanoTime();
        Exception[] failure = new Exception[1];
        try (KafkaProducer<byte[], byte[]> producer = producer(ask)) {
            for (long number = first; number < first + count; number++) {
                if (rate > 0) {
                    long due = begin + (long) ((number - first) * 1e9 / rate);
                    long early = due - System.nanoTime();
                    if (early > 2_000_000) {
                        Thread.sleep(early / 1_000_000);
                    }
                }
                byte[] head = (number + " ").getBytes(StandardCharsets.US_ASCII);
                byte[] value = Arrays.copyOf(head, head.length + padding.length);
                System.arraycopy(padding, 0, value, head.length, padding.length);
                byte[] key = ("key-" + number % keys).getBytes(StandardCharsets.US_ASCII);
                producer.send(new ProducerRecord<>(topic, key, value), (acked, error) -> {
                    if (error != null) {
                        failure[0] = error;
                    }
                });
            }
        }
        if (failure[0] != null) {
            throw failure[0];
        }
    }

    // --- consuming ------------------------------------------------------------------------------

    private static KafkaConsumer<byte[], byte[]> consumer(JsonNode ask) {
        Properties properties = new Properties();
        properties.putAll(strings(ask.get("config")));
        properties.putIfAbsent("bootstrap.servers", ask.get("bootstrap").asText());
        properties.putIfAbsent("isolation.level", "read_committed");
        properties.putIfAbsent("auto.offset.reset", "earliest");
        properties.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(
                properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    // Asked of the admin client, because a consumer that asks for a topic may create it.
    private static List<TopicPartition> partitions(JsonNode ask) throws Exception {
        String topic = ask.get("topic").asText();
        List<TopicPartition> partitions = new ArrayList<>();
        try (Admin admin = admin(ask)) {
            admin.describeTopics(List.of(topic)).allTopicNames()
                    .get(WAIT_SECONDS, TimeUnit.SECONDS).get(topic).partitions()
                    .forEach(one -> partitions.add(new TopicPartition(topic, one.partition())));
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof UnknownTopicOrPartitionException)) {
                throw error;
            }
        }
        return partitions;
    }

    // Every record of a topic up to where its partitions end now.
    private static void dump(JsonNode ask) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(ask)) {
            List<TopicPartition> partitions = partitions(ask);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
            while (ends.entrySet().stream()
                    .anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("the end was not reached");
                }
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    out.println(line(record));
                }
            }
        }
    }

    private static ObjectNode line(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode line = JSON.createObjectNode();
        line.put("partition", record.partition());
        line.put("offset", record.offset());
        line.put("timestamp", record.timestamp());
        line.put("timestamp_type", record.timestampType().toString());
        line.put("key", text(record.key()));
        line.put("value", text(record.value()));
        ArrayNode headers = line.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(text(header.value()));
        }
        return line;
    }

    private static void ends(JsonNode ask) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(ask)) {
            List<TopicPartition> partitions = partitions(ask);
            Map<TopicPartition, Long> first = consumer.beginningOffsets(partitions);
            consumer.endOffsets(partitions).forEach((partition, end) -> {
                ObjectNode line = JSON.createObjectNode();
                line.put("partition", partition.partition());
                line.put("first", first.get(partition));
                line.put("end", end);
                out.println(line);
            });
        }
    }

    private static void committed(JsonNode ask) throws Exception {
        try (Admin admin = admin(ask)) {
            Map<TopicPartition, OffsetAndMetadata> offsets =
                    admin.listConsumerGroupOffsets(ask.get("group").asText())
                            .partitionsToOffsetAndMetadata().get(WAIT_SECONDS, TimeUnit.SECONDS);
            offsets.forEach((partition, offset) -> {
                ObjectNode line = JSON.createObjectNode();
                line.put("topic", partition.topic());
                line.put("partition", partition.partition());
                line.put("next_offset", offset == null ? -1 : offset.offset());
                out.println(line);
            });
        }
    }

    private static void members(JsonNode ask) throws Exception {
        String group = ask.get("group").asText();
        try (Admin admin = admin(ask)) {
            admin.describeConsumerGroups(List.of(group)).describedGroups().get(group)
                    .get(WAIT_SECONDS, TimeUnit.SECONDS).members().forEach(member -> {
                        ObjectNode line = JSON.createObjectNode();
                        line.put("client", member.clientId());
                        line.put("partitions", member.assignment().topicPartitions().size());
                        out.println(line);
                    });
        }
    }

    // A member of a group for some time: says what it was assigned and how much it read.
    private static void member(JsonNode ask) {
        Map<String, Integer> most = new HashMap<>();
        long[] read = new long[1];
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(ask)) {
            consumer.subscribe(List.of(ask.get("topic").asText()),
                    new ConsumerRebalanceListener() {
                        @Override
                        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                        }

                        @Override
                        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                            most.merge("partitions", partitions.size(), Math::max);
                        }
                    });
            long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ask.get("ms").asLong());
            while (System.nanoTime() < end) {
                read[0] += consumer.poll(Duration.ofMillis(100)).count();
                consumer.commitSync();
            }
        }
        ObjectNode line = JSON.createObjectNode();
        line.put("partitions", most.getOrDefault("partitions", 0));
        line.put("records", read[0]);
        out.println(line);
    }

    // --- values ---------------------------------------------------------------------------------

    private static Map<String, String> strings(JsonNode node) {
        Map<String, String> strings = new HashMap<>();
        if (node != null) {
            node.fields().forEachRemaining(
                    field -> strings.put(field.getKey(), field.getValue().asText()));
        }
        return strings;
    }

    private static byte[] bytes(JsonNode node) {
        return node == null || node.isNull() ? null : HexFormat.of().parseHex(node.asText());
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : HexFormat.of().formatHex(bytes);
    }
}
