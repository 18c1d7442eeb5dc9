// Command franz-go copies the records of one topic, one by one, as fast as a mirror of records
// written by hand can: the peer `franz-go` of the benchmark. Each stream is a member of the group
// with a client of its own at both ends. What is acknowledged is committed, in the background.
// Its only argument is a file of settings.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var settings struct {
	Source, Destination, Group, Compression string
	Topic                                   string // a pattern
	ByKey                                   bool   // instead of keeping the partition
	BatchBytes                              int32  // of the largest batch, uncompressed
	Streams                                 int
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	fail(ctx, json.Unmarshal(must(os.ReadFile(os.Args[1])), &settings))
	var all sync.WaitGroup
	for range settings.Streams {
		all.Go(func() { mirror(ctx) })
	}
	all.Wait()
}

func mirror(ctx context.Context) {
	partitioner := kgo.ManualPartitioner()
	if settings.ByKey {
		partitioner = kgo.StickyKeyPartitioner(nil)
	}
	to := must(kgo.NewClient(kgo.SeedBrokers(strings.Split(settings.Destination, ",")...),
		kgo.RecordPartitioner(partitioner), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(20*time.Millisecond), kgo.ProducerBatchMaxBytes(settings.BatchBytes),
		kgo.ProducerBatchCompression(codecs[settings.Compression]),
		kgo.MaxBufferedRecords(100_000), kgo.MaxBufferedBytes(64<<20)))
	defer to.Close()
	from := must(kgo.NewClient(kgo.SeedBrokers(strings.Split(settings.Source, ",")...),
		kgo.ConsumerGroup(settings.Group), kgo.ConsumeTopics(settings.Topic), kgo.ConsumeRegex(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16<<20),
		kgo.AutoCommitMarks(),
		kgo.OnPartitionsRevoked(func(_ context.Context, from *kgo.Client, _ map[string][]int32) {
			fail(ctx, to.Flush(context.Background()))
			fail(ctx, from.CommitMarkedOffsets(context.Background()))
		})))
	defer from.Close()
	for ctx.Err() == nil {
		fetches := from.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) { fail(ctx, err) })
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			for index, read := range fetched.Records {
				last := index == len(fetched.Records)-1
				copied := &kgo.Record{Topic: read.Topic, Partition: read.Partition, Key: read.Key,
					Value: read.Value, Headers: read.Headers, Timestamp: read.Timestamp}
				to.Produce(ctx, copied, func(_ *kgo.Record, err error) {
					fail(ctx, err)
					if last && err == nil { // promises come in the order of the partition
						from.MarkCommitRecords(read)
					}
				})
			}
		})
	}
}

func must[T any](value T, err error) T {
	fail(context.Background(), err)
	return value
}

// fail ends the process, unless it is ending anyway.
func fail(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}
