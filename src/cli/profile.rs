//! `--profile`

use crate::golden::Profile;
use clap::ValueEnum;

/// The names of the profiles.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProfileName {
    /// 64-bit numbers throughout
    F64,
    /// 32-bit numbers throughout
    F32,
    /// 32 bits, products with operands of 10 bits
    Tf32,
    /// bfloat16 operands or results, sums in 32 bits
    Bf16,
    /// half-precision operands or results, sums in 32 bits
    F16,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::F64 => Self::F64,
            ProfileName::F32 => Self::F32,
            ProfileName::Tf32 => Self::Tf32,
            ProfileName::Bf16 => Self::Bf16,
            ProfileName::F16 => Self::F16,
        }
    }
}
