//! The shapes of the answers this client reads, from the schemas that Kafka publishes with its
//! source (`clients/src/main/resources/common/message/*Response.json`). Only lengths and counts
//! matter here, so the names of the fields are left out.

use kafka_protocol::messages::ApiKey;

use super::Shape::{self, Blob, Fixed, List, Scalars, Struct, Text};
use super::{Field, Message};

/// The shape of the answers of `api`, for the APIs that this client uses.
pub(super) fn answer(api: ApiKey) -> Option<&'static Message> {
    Some(match api {
        ApiKey::Produce => &PRODUCE,
        ApiKey::Fetch => &FETCH,
        ApiKey::ListOffsets => &LIST_OFFSETS,
        ApiKey::Metadata => &METADATA,
        ApiKey::OffsetCommit => &OFFSET_COMMIT,
        ApiKey::OffsetFetch => &OFFSET_FETCH,
        ApiKey::FindCoordinator => &FIND_COORDINATOR,
        ApiKey::JoinGroup => &JOIN_GROUP,
        ApiKey::Heartbeat => &HEARTBEAT,
        ApiKey::LeaveGroup => &LEAVE_GROUP,
        ApiKey::SyncGroup => &SYNC_GROUP,
        ApiKey::DescribeGroups => &DESCRIBE_GROUPS,
        ApiKey::ListGroups => &LIST_GROUPS,
        ApiKey::ApiVersions => &API_VERSIONS,
        ApiKey::CreateTopics => &CREATE_TOPICS,
        ApiKey::DeleteTopics => &DELETE_TOPICS,
        ApiKey::DeleteRecords => &DELETE_RECORDS,
        ApiKey::InitProducerId => &INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => &OFFSET_FOR_LEADER_EPOCH,
        ApiKey::AddPartitionsToTxn => &ADD_PARTITIONS_TO_TXN,
        ApiKey::AddOffsetsToTxn => &ADD_OFFSETS_TO_TXN,
        ApiKey::EndTxn => &END_TXN,
        ApiKey::TxnOffsetCommit => &TXN_OFFSET_COMMIT,
        ApiKey::DescribeAcls => &DESCRIBE_ACLS,
        ApiKey::DescribeConfigs => &DESCRIBE_CONFIGS,
        ApiKey::AlterConfigs => &ALTER_CONFIGS,
        ApiKey::CreatePartitions => &CREATE_PARTITIONS,
        ApiKey::DeleteGroups => &DELETE_GROUPS,
        ApiKey::IncrementalAlterConfigs => &INCREMENTAL_ALTER_CONFIGS,
        ApiKey::OffsetDelete => &OFFSET_DELETE,
        ApiKey::DescribeCluster => &DESCRIBE_CLUSTER,
        _ => return None,
    })
}

/// No version is flexible.
const NEVER: i16 = i16::MAX;

const fn all(shape: Shape) -> Field {
    Field { first: 0, last: i16::MAX, tag: None, shape }
}

const fn since(first: i16, shape: Shape) -> Field {
    Field { first, last: i16::MAX, tag: None, shape }
}

const fn between(first: i16, last: i16, shape: Shape) -> Field {
    Field { first, last, tag: None, shape }
}

const fn tagged(tag: u32, shape: Shape) -> Field {
    Field { first: 0, last: i16::MAX, tag: Some(tag), shape }
}

const PRODUCE: Message = Message {
    known_to: 12,
    flexible_from: 9,
    fields: &[
        all(List(&[
            all(Text),
            all(List(&[
                all(Fixed(4)),
                all(Fixed(2)),
                all(Fixed(8)),
                since(2, Fixed(8)),
                since(5, Fixed(8)),
                since(8, List(&[since(8, Fixed(4)), since(8, Text)])),
                since(8, Text),
                tagged(0, Struct(&[since(10, Fixed(4)), since(10, Fixed(4))])),
            ])),
        ])),
        since(1, Fixed(4)),
        tagged(
            0,
            List(&[since(10, Fixed(4)), since(10, Text), since(10, Fixed(4)), since(10, Text)]),
        ),
    ],
};

const FETCH: Message = Message {
    known_to: 17,
    flexible_from: 12,
    fields: &[
        since(1, Fixed(4)),
        since(7, Fixed(2)),
        since(7, Fixed(4)),
        all(List(&[
            between(0, 12, Text),
            since(13, Fixed(16)),
            all(List(&[
                all(Fixed(4)),
                all(Fixed(2)),
                all(Fixed(8)),
                since(4, Fixed(8)),
                since(5, Fixed(8)),
                tagged(0, Struct(&[since(12, Fixed(4)), since(12, Fixed(8))])),
                tagged(1, Struct(&[since(12, Fixed(4)), since(12, Fixed(4))])),
                tagged(2, Struct(&[all(Fixed(8)), all(Fixed(4))])),
                since(4, List(&[since(4, Fixed(8)), since(4, Fixed(8))])),
                since(11, Fixed(4)),
                all(Blob),
            ])),
        ])),
        tagged(
            0,
            List(&[since(16, Fixed(4)), since(16, Text), since(16, Fixed(4)), since(16, Text)]),
        ),
    ],
};

const LIST_OFFSETS: Message = Message {
    known_to: 10,
    flexible_from: 6,
    fields: &[
        since(2, Fixed(4)),
        all(List(&[
            all(Text),
            all(List(&[
                all(Fixed(4)),
                all(Fixed(2)),
                between(0, 0, Scalars(&Fixed(8))),
                since(1, Fixed(8)),
                since(1, Fixed(8)),
                since(4, Fixed(4)),
            ])),
        ])),
    ],
};

const METADATA: Message = Message {
    known_to: 12,
    flexible_from: 9,
    fields: &[
        since(3, Fixed(4)),
        all(List(&[all(Fixed(4)), all(Text), all(Fixed(4)), since(1, Text)])),
        since(2, Text),
        since(1, Fixed(4)),
        all(List(&[
            all(Fixed(2)),
            all(Text),
            since(10, Fixed(16)),
            since(1, Fixed(1)),
            all(List(&[
                all(Fixed(2)),
                all(Fixed(4)),
                all(Fixed(4)),
                since(7, Fixed(4)),
                all(Scalars(&Fixed(4))),
                all(Scalars(&Fixed(4))),
                since(5, Scalars(&Fixed(4))),
            ])),
            since(8, Fixed(4)),
        ])),
        between(8, 10, Fixed(4)),
    ],
};

const OFFSET_COMMIT: Message = Message {
    known_to: 9,
    flexible_from: 8,
    fields: &[
        since(3, Fixed(4)),
        all(List(&[all(Text), all(List(&[all(Fixed(4)), all(Fixed(2))]))])),
    ],
};

const OFFSET_FETCH: Message = Message {
    known_to: 9,
    flexible_from: 6,
    fields: &[
        since(3, Fixed(4)),
        between(
            0,
            7,
            List(&[
                between(0, 7, Text),
                between(
                    0,
                    7,
                    List(&[
                        between(0, 7, Fixed(4)),
                        between(0, 7, Fixed(8)),
                        between(5, 7, Fixed(4)),
                        between(0, 7, Text),
                        between(0, 7, Fixed(2)),
                    ]),
                ),
            ]),
        ),
        between(2, 7, Fixed(2)),
        since(
            8,
            List(&[
                since(8, Text),
                since(
                    8,
                    List(&[
                        since(8, Text),
                        since(
                            8,
                            List(&[
                                since(8, Fixed(4)),
                                since(8, Fixed(8)),
                                since(8, Fixed(4)),
                                since(8, Text),
                                since(8, Fixed(2)),
                            ]),
                        ),
                    ]),
                ),
                since(8, Fixed(2)),
            ]),
        ),
    ],
};

const FIND_COORDINATOR: Message = Message {
    known_to: 6,
    flexible_from: 3,
    fields: &[
        since(1, Fixed(4)),
        between(0, 3, Fixed(2)),
        between(1, 3, Text),
        between(0, 3, Fixed(4)),
        between(0, 3, Text),
        between(0, 3, Fixed(4)),
        since(
            4,
            List(&[
                since(4, Text),
                since(4, Fixed(4)),
                since(4, Text),
                since(4, Fixed(4)),
                since(4, Fixed(2)),
                since(4, Text),
            ]),
        ),
    ],
};

const JOIN_GROUP: Message = Message {
    known_to: 9,
    flexible_from: 6,
    fields: &[
        since(2, Fixed(4)),
        all(Fixed(2)),
        all(Fixed(4)),
        since(7, Text),
        all(Text),
        all(Text),
        since(9, Fixed(1)),
        all(Text),
        all(List(&[all(Text), since(5, Text), all(Blob)])),
    ],
};

const HEARTBEAT: Message =
    Message { known_to: 4, flexible_from: 4, fields: &[since(1, Fixed(4)), all(Fixed(2))] };

const LEAVE_GROUP: Message = Message {
    known_to: 5,
    flexible_from: 4,
    fields: &[
        since(1, Fixed(4)),
        all(Fixed(2)),
        since(3, List(&[since(3, Text), since(3, Text), since(3, Fixed(2))])),
    ],
};

const SYNC_GROUP: Message = Message {
    known_to: 5,
    flexible_from: 4,
    fields: &[since(1, Fixed(4)), all(Fixed(2)), since(5, Text), since(5, Text), all(Blob)],
};

const DESCRIBE_GROUPS: Message = Message {
    known_to: 5,
    flexible_from: 5,
    fields: &[
        since(1, Fixed(4)),
        all(List(&[
            all(Fixed(2)),
            all(Text),
            all(Text),
            all(Text),
            all(Text),
            all(List(&[all(Text), since(4, Text), all(Text), all(Text), all(Blob), all(Blob)])),
            since(3, Fixed(4)),
        ])),
    ],
};

const LIST_GROUPS: Message = Message {
    known_to: 5,
    flexible_from: 3,
    fields: &[
        since(1, Fixed(4)),
        all(Fixed(2)),
        all(List(&[all(Text), all(Text), since(4, Text), since(5, Text)])),
    ],
};

const API_VERSIONS: Message = Message {
    known_to: 4,
    flexible_from: 3,
    fields: &[
        all(Fixed(2)),
        all(List(&[all(Fixed(2)), all(Fixed(2)), all(Fixed(2))])),
        since(1, Fixed(4)),
        tagged(0, List(&[since(3, Text), since(3, Fixed(2)), since(3, Fixed(2))])),
        tagged(1, Fixed(8)),
        tagged(2, List(&[since(3, Text), since(3, Fixed(2)), since(3, Fixed(2))])),
        tagged(3, Fixed(1)),
    ],
};

const CREATE_TOPICS: Message = Message {
    known_to: 7,
    flexible_from: 5,
    fields: &[
        since(2, Fixed(4)),
        all(List(&[
            all(Text),
            since(7, Fixed(16)),
            all(Fixed(2)),
            since(1, Text),
            tagged(0, Fixed(2)),
            since(5, Fixed(4)),
            since(5, Fixed(2)),
            since(
                5,
                List(&[
                    since(5, Text),
                    since(5, Text),
                    since(5, Fixed(1)),
                    since(5, Fixed(1)),
                    since(5, Fixed(1)),
                ]),
            ),
        ])),
    ],
};

const DELETE_TOPICS: Message = Message {
    known_to: 6,
    flexible_from: 4,
    fields: &[
        since(1, Fixed(4)),
        all(List(&[all(Text), since(6, Fixed(16)), all(Fixed(2)), since(5, Text)])),
    ],
};

const DELETE_RECORDS: Message = Message {
    known_to: 2,
    flexible_from: 2,
    fields: &[
        all(Fixed(4)),
        all(List(&[all(Text), all(List(&[all(Fixed(4)), all(Fixed(8)), all(Fixed(2))]))])),
    ],
};

const INIT_PRODUCER_ID: Message = Message {
    known_to: 5,
    flexible_from: 2,
    fields: &[all(Fixed(4)), all(Fixed(2)), all(Fixed(8)), all(Fixed(2))],
};

const OFFSET_FOR_LEADER_EPOCH: Message = Message {
    known_to: 4,
    flexible_from: 4,
    fields: &[
        since(2, Fixed(4)),
        all(List(&[
            all(Text),
            all(List(&[all(Fixed(2)), all(Fixed(4)), since(1, Fixed(4)), all(Fixed(8))])),
        ])),
    ],
};

const ADD_PARTITIONS_TO_TXN: Message = Message {
    known_to: 5,
    flexible_from: 3,
    fields: &[
        all(Fixed(4)),
        since(4, Fixed(2)),
        since(
            4,
            List(&[
                since(4, Text),
                since(4, List(&[all(Text), all(List(&[all(Fixed(4)), all(Fixed(2))]))])),
            ]),
        ),
        between(0, 3, List(&[all(Text), all(List(&[all(Fixed(4)), all(Fixed(2))]))])),
    ],
};

const ADD_OFFSETS_TO_TXN: Message =
    Message { known_to: 4, flexible_from: 3, fields: &[all(Fixed(4)), all(Fixed(2))] };

const END_TXN: Message = Message {
    known_to: 5,
    flexible_from: 3,
    fields: &[all(Fixed(4)), all(Fixed(2)), since(5, Fixed(8)), since(5, Fixed(2))],
};

const TXN_OFFSET_COMMIT: Message = Message {
    known_to: 4,
    flexible_from: 3,
    fields: &[all(Fixed(4)), all(List(&[all(Text), all(List(&[all(Fixed(4)), all(Fixed(2))]))]))],
};

const DESCRIBE_ACLS: Message = Message {
    known_to: 3,
    flexible_from: 2,
    fields: &[
        all(Fixed(4)),
        all(Fixed(2)),
        all(Text),
        all(List(&[
            all(Fixed(1)),
            all(Text),
            since(1, Fixed(1)),
            all(List(&[all(Text), all(Text), all(Fixed(1)), all(Fixed(1))])),
        ])),
    ],
};

const DESCRIBE_CONFIGS: Message = Message {
    known_to: 4,
    flexible_from: 4,
    fields: &[
        all(Fixed(4)),
        all(List(&[
            all(Fixed(2)),
            all(Text),
            all(Fixed(1)),
            all(Text),
            all(List(&[
                all(Text),
                all(Text),
                all(Fixed(1)),
                between(0, 0, Fixed(1)),
                since(1, Fixed(1)),
                all(Fixed(1)),
                since(1, List(&[since(1, Text), since(1, Text), since(1, Fixed(1))])),
                since(3, Fixed(1)),
                since(3, Text),
            ])),
        ])),
    ],
};

const ALTER_CONFIGS: Message = Message {
    known_to: 2,
    flexible_from: 2,
    fields: &[all(Fixed(4)), all(List(&[all(Fixed(2)), all(Text), all(Fixed(1)), all(Text)]))],
};

const CREATE_PARTITIONS: Message = Message {
    known_to: 3,
    flexible_from: 2,
    fields: &[all(Fixed(4)), all(List(&[all(Text), all(Fixed(2)), all(Text)]))],
};

const DELETE_GROUPS: Message = Message {
    known_to: 2,
    flexible_from: 2,
    fields: &[all(Fixed(4)), all(List(&[all(Text), all(Fixed(2))]))],
};

const INCREMENTAL_ALTER_CONFIGS: Message = Message {
    known_to: 1,
    flexible_from: 1,
    fields: &[all(Fixed(4)), all(List(&[all(Fixed(2)), all(Text), all(Fixed(1)), all(Text)]))],
};

const OFFSET_DELETE: Message = Message {
    known_to: 0,
    flexible_from: NEVER,
    fields: &[
        all(Fixed(2)),
        all(Fixed(4)),
        all(List(&[all(Text), all(List(&[all(Fixed(4)), all(Fixed(2))]))])),
    ],
};

const DESCRIBE_CLUSTER: Message = Message {
    known_to: 1,
    flexible_from: 0,
    fields: &[
        all(Fixed(4)),
        all(Fixed(2)),
        all(Text),
        since(1, Fixed(1)),
        all(Text),
        all(Fixed(4)),
        all(List(&[all(Fixed(4)), all(Text), all(Fixed(4)), all(Text)])),
        all(Fixed(4)),
    ],
};
