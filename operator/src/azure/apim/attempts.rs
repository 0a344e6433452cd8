//! How often a pass begins anew because what it had read was stale. In: an error; out: whether to read again.

use super::error::{ArmError, ErrorClass, RegistrationError};

/// A stale ETag means: read again. Somebody who changes the same thing all the time wins for now.
const ATTEMPTS: u32 = 3;

/// The attempts of one pass.
#[derive(Debug, Default)]
pub(crate) struct Attempts(u32);

impl Attempts {
    pub(crate) fn is_first(&self) -> bool {
        self.0 == 0
    }

    /// Counts a failed attempt; true when the pass begins anew.
    pub(crate) fn again(&mut self, error: &RegistrationError) -> bool {
        self.0 += 1;
        let stale = matches!(
            error,
            RegistrationError::Arm(ArmError {
                class: ErrorClass::PreconditionFailed { .. },
                ..
            })
        );
        stale && self.0 < ATTEMPTS
    }
}
