//! Which versions of which APIs the cluster serves, and how to look like an older release.
//!
//! Owned by the cluster. Always true: a served range lies inside what `kafka-protocol` can decode,
//! or this crate by hand, and what this crate implements.

use std::collections::BTreeMap;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::VersionRange;

/// The broker release that the cluster looks like: the versions it offers and the checks that
/// changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Release {
    /// 0.11.0: the first with v2 batches.
    V0_11,
    /// 1.1.
    V1_1,
    /// 2.4 (HDInsight 4.0).
    V2_4,
    /// 3.2 (HDInsight 5.1).
    V3_2,
    /// 3.9; the default.
    #[default]
    V3_9,
    /// 4.0, which dropped the oldest versions.
    V4_0,
}

/// The API versions a cluster offers.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    served: BTreeMap<i16, VersionRange>,
}

impl Versions {
    pub(crate) fn of(release: Release) -> Versions {
        let mut served = BTreeMap::new();
        for row in TABLE {
            let max = row.maxima[release as usize];
            let mut range = row.api.valid_versions();
            if row.api == ApiKey::DescribeConfigs {
                range.min = 0; // by hand
            }
            range.max = range.max.min(max);
            if release == Release::V4_0 {
                range.min = range.min.max(row.min_v4);
            }
            if max >= 0 && !range.is_empty() {
                served.insert(row.api as i16, range);
            }
        }
        Versions { served }
    }

    /// Lowers the greatest version of one API; below its least version the API disappears.
    pub(crate) fn lower(&mut self, api: ApiKey, max: i16) {
        if let Some(range) = self.served.get_mut(&(api as i16)) {
            range.max = range.max.min(max);
            if range.is_empty() {
                self.served.remove(&(api as i16));
            }
        }
    }

    pub(crate) fn serves(&self, api: i16, version: i16) -> bool {
        self.served.get(&api).is_some_and(|range| (range.min..=range.max).contains(&version))
    }

    /// What ApiVersions says. Produce starts at 0 there although 0 to 2 are not served: librdkafka
    /// compresses only for a broker that offers v0, so 4.x brokers say the same (KAFKA-18659).
    pub(crate) fn advertised(&self) -> impl Iterator<Item = (i16, VersionRange)> {
        self.served.iter().map(|(api, range)| {
            let min = if *api == ApiKey::Produce as i16 { 0 } else { range.min };
            (*api, VersionRange { min, max: range.max })
        })
    }
}

struct Row {
    api: ApiKey,
    /// Greatest version by release, in the order of [`Release`]; -1 is not served.
    maxima: [i16; 6],
    /// Least version that 4.0 still has (KIP-896).
    min_v4: i16,
}

const fn row(api: ApiKey, maxima: [i16; 6], min_v4: i16) -> Row {
    Row { api, maxima, min_v4 }
}

const TABLE: &[Row] = &[
    row(ApiKey::Produce, [3, 5, 8, 9, 11, 11], 3),
    row(ApiKey::Fetch, [5, 7, 11, 13, 17, 17], 4),
    row(ApiKey::ListOffsets, [2, 2, 5, 7, 9, 10], 1),
    row(ApiKey::Metadata, [4, 5, 9, 12, 12, 13], 0),
    row(ApiKey::OffsetCommit, [3, 3, 8, 8, 9, 9], 2),
    row(ApiKey::OffsetFetch, [3, 3, 6, 8, 9, 9], 1),
    row(ApiKey::FindCoordinator, [1, 1, 3, 4, 6, 6], 0),
    row(ApiKey::JoinGroup, [2, 2, 6, 9, 9, 9], 2),
    row(ApiKey::Heartbeat, [1, 1, 4, 4, 4, 4], 0),
    row(ApiKey::LeaveGroup, [1, 1, 4, 5, 5, 5], 0),
    row(ApiKey::SyncGroup, [1, 1, 4, 5, 5, 5], 0),
    row(ApiKey::DescribeGroups, [1, 1, 5, 5, 5, 6], 0),
    row(ApiKey::ListGroups, [1, 1, 3, 4, 5, 5], 0),
    row(ApiKey::ApiVersions, [1, 1, 3, 3, 4, 4], 0),
    row(ApiKey::CreateTopics, [2, 2, 5, 7, 7, 7], 2),
    row(ApiKey::DeleteTopics, [1, 1, 4, 6, 6, 6], 1),
    row(ApiKey::DeleteRecords, [0, 0, 1, 2, 2, 2], 0),
    row(ApiKey::InitProducerId, [0, 0, 2, 4, 5, 5], 0),
    row(ApiKey::OffsetForLeaderEpoch, [0, 0, 3, 4, 4, 4], 2),
    row(ApiKey::AddPartitionsToTxn, [0, 0, 1, 3, 3, 3], 0),
    row(ApiKey::AddOffsetsToTxn, [0, 0, 1, 3, 4, 4], 0),
    row(ApiKey::EndTxn, [0, 0, 1, 3, 4, 4], 0),
    row(ApiKey::TxnOffsetCommit, [0, 0, 2, 3, 4, 4], 0),
    row(ApiKey::DescribeAcls, [0, 0, 1, 2, 3, 3], 1),
    row(ApiKey::DescribeConfigs, [0, 1, 2, 4, 4, 4], 1),
    row(ApiKey::AlterConfigs, [0, 0, 1, 2, 2, 2], 0),
    row(ApiKey::CreatePartitions, [-1, 0, 1, 3, 3, 3], 0),
    row(ApiKey::DeleteGroups, [-1, 0, 2, 2, 2, 2], 0),
    row(ApiKey::IncrementalAlterConfigs, [-1, -1, 1, 1, 1, 1], 0),
    row(ApiKey::OffsetDelete, [-1, -1, 0, 0, 0, 0], 0),
    row(ApiKey::DescribeCluster, [-1, -1, -1, 0, 1, 2], 0),
    row(ApiKey::DescribeProducers, [-1, -1, -1, 0, 0, 0], 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_release_never_serves_more_than_a_newer_one() {
        for row in TABLE {
            assert!(row.maxima.is_sorted(), "{:?}", row.api);
        }
    }

    #[test]
    fn a_lowered_version_is_not_served() {
        let mut versions = Versions::of(Release::V3_9);
        versions.lower(ApiKey::Fetch, 11);
        assert!(versions.serves(ApiKey::Fetch as i16, 11));
        assert!(!versions.serves(ApiKey::Fetch as i16, 12));
        versions.lower(ApiKey::DescribeCluster, -1);
        assert!(!versions.serves(ApiKey::DescribeCluster as i16, 0));
    }
}
