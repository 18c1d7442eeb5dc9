//! Every API at every version a release offers is answered, and the answer decodes.

mod support;

use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use kmirror_fake::{Cluster, Release};
use support::{Client, batch, fetch_request, name, produce_request, string};

const RELEASES: [Release; 6] =
    [Release::V0_11, Release::V1_1, Release::V2_4, Release::V3_2, Release::V3_9, Release::V4_0];

#[tokio::test]
async fn every_offered_version_is_answered_in_a_form_that_decodes() {
    for release in RELEASES {
        let cluster = Cluster::builder().in_memory().emulate(release).start().await.unwrap();
        cluster.create_topic("t", 2);
        cluster.commit_offset("g", "t", 0, 3).unwrap();
        sweep_data(&cluster, release).await;
        sweep_groups(&cluster).await;
        sweep_transactions(&cluster).await;
        sweep_administration(&cluster).await;
    }
}

#[tokio::test]
async fn a_version_that_is_not_offered_closes_the_connection() {
    let cluster =
        Cluster::builder().in_memory().max_version(ApiKey::Metadata, 4).start().await.unwrap();
    let mut client = Client::new(&cluster, 1);
    client.call(4, MetadataRequest::default()).await;
    assert!(client.try_call(5, MetadataRequest::default()).await.is_err());
}

#[tokio::test]
async fn an_unknown_api_versions_version_is_answered_in_v0_with_what_is_offered() {
    let cluster = Cluster::builder().in_memory().emulate(Release::V0_11).start().await.unwrap();
    let mut client = Client::new(&cluster, 1);
    client.send(3, &ApiVersionsRequest::default()).await.unwrap();
    let mut body = client.receive(ApiKey::ApiVersions as i16, 0).await.unwrap();
    let response: ApiVersionsResponse =
        kafka_protocol::protocol::Decodable::decode(&mut body, 0).unwrap();
    assert_eq!(response.error_code, 35);
    assert!(response.api_keys.iter().any(|api| api.api_key == ApiKey::Produce as i16));
}

async fn offered<Q: Request>(cluster: &Cluster) -> RangeInclusive<i16> {
    let mut client = Client::new(cluster, 1);
    let versions = client.call(0, ApiVersionsRequest::default()).await;
    let found = versions.api_keys.iter().find(|api| api.api_key == Q::KEY);
    // A range is also bounded by what the request structs can encode: Produce is offered from v0
    // on.
    let max = Q::VERSIONS.max;
    let found = found.map_or((0, -1), |api| (api.min_version, api.max_version));
    found.0.max(Q::VERSIONS.min)..=found.1.min(max)
}

/// Calls every offered version with what `build` makes of it.
async fn sweep<Q: Request>(cluster: &Cluster, build: impl Fn(i16) -> Q) {
    for version in offered::<Q>(cluster).await {
        let mut client = Client::new(cluster, 1);
        let answer = client.try_call(version, build(version)).await;
        assert!(answer.is_ok(), "api {} v{version}: {:?}", Q::KEY, answer.err());
    }
}

async fn sweep_data(cluster: &Cluster, release: Release) {
    sweep(cluster, |_| ApiVersionsRequest::default()).await;
    for topic in ["t", "unknown topic"] {
        sweep(cluster, |_| {
            let asked = metadata_request::MetadataRequestTopic::default();
            let asked = asked.with_name(Some(name(topic)));
            MetadataRequest::default().with_topics(Some(vec![asked]))
        })
        .await;
        let good = batch(&["value"]).build(cluster.unix_ms());
        for records in [good, Bytes::from_static(b"not a batch")] {
            sweep(cluster, |_| produce_request(topic, 0, records.clone())).await;
        }
        sweep(cluster, |version| {
            let mut request = fetch_request(topic, &[(0, 0), (1, 0), (7, 0)]);
            if version >= 13 {
                request.topics[0].topic = TopicName::default();
                request.topics[0].topic_id = uuid::Uuid::from_u128(5);
            }
            request
        })
        .await;
        sweep(cluster, |_| list_offsets(topic)).await;
        sweep(cluster, |_| {
            let asked = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(name(topic))
                .with_partitions(vec![asked]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
        })
        .await;
    }
    assert!(!cluster.records("t", 0).is_empty(), "{release:?}");
}

fn list_offsets(topic: &str) -> ListOffsetsRequest {
    let asked =
        |timestamp| list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = list_offsets_request::ListOffsetsTopic::default()
        .with_name(name(topic))
        .with_partitions([-1, -2, 0, i64::MAX].map(asked).to_vec());
    ListOffsetsRequest::default().with_topics(vec![topic])
}

async fn sweep_groups(cluster: &Cluster) {
    sweep(cluster, |version| {
        let request = FindCoordinatorRequest::default();
        if version >= 4 {
            request.with_coordinator_keys(vec![string("g"), string("h")])
        } else {
            request.with_key(string("g"))
        }
    })
    .await;
    let group = || GroupId(string("g"));
    sweep(cluster, |version| {
        let protocol = join_group_request::JoinGroupRequestProtocol::default();
        JoinGroupRequest::default()
            .with_group_id(GroupId(string(&format!("joined-{version}"))))
            .with_session_timeout_ms(6000)
            .with_rebalance_timeout_ms(1)
            .with_protocol_type(string("consumer"))
            .with_protocols(vec![protocol.with_name(string("range"))])
    })
    .await;
    sweep(cluster, |_| SyncGroupRequest::default().with_group_id(group())).await;
    sweep(cluster, |_| HeartbeatRequest::default().with_group_id(group())).await;
    sweep(cluster, |version| {
        let request = LeaveGroupRequest::default().with_group_id(group());
        if version >= 3 {
            let member = leave_group_request::MemberIdentity::default();
            request.with_members(vec![member.with_member_id(string("m"))])
        } else {
            request.with_member_id(string("m"))
        }
    })
    .await;
    sweep(cluster, |_| {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default();
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition.with_committed_offset(3)]);
        OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    })
    .await;
    sweep(cluster, offset_fetch).await;
    sweep(cluster, |_| ListGroupsRequest::default()).await;
    sweep(cluster, |_| {
        let groups = vec![group(), GroupId(string("joined-2")), GroupId(string("nobody"))];
        DescribeGroupsRequest::default().with_groups(groups)
    })
    .await;
    sweep(cluster, |_| OffsetDeleteRequest::default().with_group_id(group())).await;
    sweep(cluster, |_| DeleteGroupsRequest::default().with_groups_names(vec![group()])).await;
}

fn offset_fetch(version: i16) -> OffsetFetchRequest {
    if version >= 8 {
        let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![0, 1]);
        let group = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(string("g")));
        let all = group.clone().with_topics(None);
        let named = group.with_topics(Some(vec![topic]));
        return OffsetFetchRequest::default().with_groups(vec![named, all]);
    }
    let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![0, 1]);
    let request = OffsetFetchRequest::default().with_group_id(GroupId(string("g")));
    request.with_topics(Some(vec![topic]))
}

async fn sweep_transactions(cluster: &Cluster) {
    let id = || TransactionalId(string("tx"));
    sweep(cluster, |_| {
        let request = InitProducerIdRequest::default().with_transactional_id(Some(id()));
        request.with_transaction_timeout_ms(1000)
    })
    .await;
    sweep(cluster, |_| {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default();
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_topics(vec![topic.with_name(name("t")).with_partitions(vec![0, 9])])
    })
    .await;
    sweep(cluster, |_| AddOffsetsToTxnRequest::default().with_transactional_id(id())).await;
    sweep(cluster, |_| {
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default().with_transactional_id(id()).with_topics(vec![topic])
    })
    .await;
    sweep(cluster, |_| EndTxnRequest::default().with_transactional_id(id())).await;
    sweep(cluster, |_| {
        let topic = describe_producers_request::TopicRequest::default();
        let topic = topic.with_name(name("t")).with_partition_indexes(vec![0, 9]);
        DescribeProducersRequest::default().with_topics(vec![topic])
    })
    .await;
}

async fn sweep_administration(cluster: &Cluster) {
    sweep(cluster, |version| {
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(name(&format!("created-{version}")))
            .with_num_partitions(2)
            .with_replication_factor(1);
        let exists = topic.clone().with_name(name("t"));
        CreateTopicsRequest::default().with_topics(vec![topic, exists])
    })
    .await;
    sweep(cluster, |_| {
        let topic = create_partitions_request::CreatePartitionsTopic::default();
        let topic = topic.with_name(name("t")).with_count(1).with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic])
    })
    .await;
    sweep(cluster, |version| {
        let doomed = name(&format!("created-{version}"));
        if version >= 6 {
            let topic = delete_topics_request::DeleteTopicState::default();
            let by_id = topic.clone().with_name(None).with_topic_id(uuid::Uuid::from_u128(9));
            DeleteTopicsRequest::default().with_topics(vec![topic.with_name(Some(doomed)), by_id])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![doomed])
        }
    })
    .await;
    sweep(cluster, |_| {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(string("t"))
            .with_configuration_keys(None);
        DescribeConfigsRequest::default().with_resources(vec![resource])
    })
    .await;
    sweep(cluster, |_| {
        let resource = alter_configs_request::AlterConfigsResource::default();
        let resource = resource.with_resource_type(2).with_resource_name(string("t"));
        AlterConfigsRequest::default().with_resources(vec![resource])
    })
    .await;
    sweep(cluster, |_| {
        let resource = incremental_alter_configs_request::AlterConfigsResource::default();
        let resource = resource.with_resource_type(4).with_resource_name(string("1"));
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    })
    .await;
    sweep(cluster, |_| {
        let partition = delete_records_request::DeleteRecordsPartition::default();
        let topic = delete_records_request::DeleteRecordsTopic::default();
        let topic = topic.with_name(name("t")).with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    })
    .await;
    sweep(cluster, |_| DescribeClusterRequest::default()).await;
    sweep(cluster, |_| DescribeAclsRequest::default()).await;
}
