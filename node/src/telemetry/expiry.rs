//! Alarms before a certificate ends: roots of others have ended in silence (security.md section 4).

use std::collections::BTreeMap;

use carrack_authority::time::Timestamp;

use super::labels::CertificateKind;

/// A certificate whose end must not come unseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedCertificate {
    /// What it is.
    pub kind: CertificateKind,
    /// Its key id, or for a server's own certificate the node id.
    pub id: String,
    /// The name of the server whose it is, unless it is the datacenter's.
    pub server: Option<String>,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
}

/// How much of a certificate's life is over. A renewal comes at half life, so each is a sign that it did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiryAlarm {
    /// 50 %: it should have been renewed about now.
    Due,
    /// 80 %: its renewal has failed for long.
    Late,
    /// 95 %: what depends on it ends soon.
    Critical,
    /// It has ended.
    Ended,
}

impl ExpiryAlarm {
    /// The alarm that stands for a certificate at this time.
    pub fn of(certificate: &WatchedCertificate, now: Timestamp) -> Option<Self> {
        let life = certificate.not_after.since(certificate.not_before).as_millis();
        let used = now.since(certificate.not_before).as_millis();
        if now > certificate.not_after {
            return Some(Self::Ended);
        }
        let has_used = |percent: u128| used * 100 >= life * percent;
        [(95, Self::Critical), (80, Self::Late), (50, Self::Due)]
            .into_iter()
            .find_map(|(percent, alarm)| has_used(percent).then_some(alarm))
    }
}

/// Remembers which alarms were raised, so that each is raised once.
#[derive(Debug, Default)]
pub struct ExpiryAlarms {
    raised: BTreeMap<(CertificateKind, String), ExpiryAlarm>,
}

impl ExpiryAlarms {
    /// The alarms that are new or higher since the last call. Certificates that are no longer watched are forgotten.
    pub fn observe<'a>(
        &mut self,
        certificates: &'a [WatchedCertificate],
        now: Timestamp,
    ) -> Vec<(&'a WatchedCertificate, ExpiryAlarm)> {
        let before = std::mem::take(&mut self.raised);
        let mut news = Vec::new();
        for certificate in certificates {
            let Some(alarm) = ExpiryAlarm::of(certificate, now) else { continue };
            let key = (certificate.kind, certificate.id.clone());
            if before.get(&key).is_none_or(|former| *former < alarm) {
                news.push((certificate, alarm));
            }
            self.raised.insert(key, alarm);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(id: &str) -> WatchedCertificate {
        let (not_before, not_after) = (Timestamp::from_seconds(1000), Timestamp::from_seconds(1100));
        WatchedCertificate { kind: CertificateKind::Root, id: id.into(), server: None, not_before, not_after }
    }

    #[test]
    fn each_share_of_its_life_has_its_alarm() {
        let table = [
            (900, None),
            (1049, None),
            (1050, Some(ExpiryAlarm::Due)),
            (1080, Some(ExpiryAlarm::Late)),
            (1095, Some(ExpiryAlarm::Critical)),
            (1100, Some(ExpiryAlarm::Critical)),
            (1101, Some(ExpiryAlarm::Ended)),
        ];
        for (second, alarm) in table {
            assert_eq!(ExpiryAlarm::of(&certificate("a"), Timestamp::from_seconds(second)), alarm, "{second}");
        }
    }

    #[test]
    fn an_alarm_is_raised_once_and_again_when_it_gets_worse() {
        let watched = [certificate("a"), certificate("b")];
        let mut alarms = ExpiryAlarms::default();
        let mut at = |certificates: &[WatchedCertificate], second| {
            alarms.observe(certificates, Timestamp::from_seconds(second)).len()
        };
        assert_eq!(at(&watched, 1060), 2);
        assert_eq!(at(&watched, 1070), 0);
        assert_eq!(at(&watched[..1], 1085), 1);
        assert_eq!(at(&watched, 1086), 1, "b was forgotten when nobody watched it");
    }
}
