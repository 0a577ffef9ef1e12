//! What a network consists of: operations that refer to parameters and buffers by position.

/// A square convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution {
    /// Position of the weight.
    pub weight: usize,
    /// Position of the bias.
    pub bias: Option<usize>,
    /// Stride in both directions.
    pub stride: i64,
    /// Zero padding in both directions.
    pub padding: i64,
    /// Groups of channels that do not see each other.
    pub groups: i64,
}

/// A BatchNorm layer.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// The layer's name.
    pub name: String,
    /// Position of the weight; the bias follows.
    pub weight: usize,
    /// Position of the running mean; running variance and counter follow.
    pub mean: usize,
}

/// One operation on the activations: `[N,C,H,W]`, `[N,T,C]` after [`Operation::Tokens`], or `[N,F]` before the classifier.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// 2-d convolution.
    Convolution(Convolution),
    /// BatchNorm with running statistics, momentum 0.1, ε 1e-5.
    BatchNorm(BatchNorm),
    /// GroupNorm, ε 1e-5.
    GroupNorm {
        /// Number of groups.
        groups: i64,
        /// Position of the weight; the bias follows.
        weight: usize,
    },
    /// LayerNorm over the last dimensions.
    LayerNorm {
        /// What is normalised together.
        shape: Vec<i64>,
        /// Position of the weight; the bias follows.
        weight: usize,
        /// ε.
        epsilon: f64,
    },
    /// max(0, x).
    Relu,
    /// min(max(0, x), 6).
    Relu6,
    /// x·Φ(x), exact.
    Gelu,
    /// Zeroes activations with this probability and scales the others up, in train mode, with libtorch's generator.
    Dropout(f64),
    /// Average over windows of 2×2.
    AveragePool,
    /// Maximum over windows of 3×3 with stride 2 and padding 1.
    MaximumPool,
    /// Average over all positions.
    GlobalPool,
    /// Every second position in both directions, between `padding` channels of zeros on either side.
    Subsample {
        /// Channels of zeros before, and as many after.
        padding: i64,
    },
    /// The channels as a matrix of `groups` rows, transposed.
    Shuffle {
        /// Number of groups.
        groups: i64,
    },
    /// `[N,C,H,W]` to `[N,C·H·W]`.
    Flatten,
    /// `[N,C,H,W]` to `[N,1+H·W,C]`: the positions in order after a class token, plus their embedding.
    Tokens {
        /// Position of the class token `[1,1,C]`.
        class: usize,
        /// Position of the position embedding `[1,1+H·W,C]`.
        position: usize,
    },
    /// Attention of all tokens to all: queries, keys and values `[N,T,3·C]` to `[N,T,C]`.
    Attention {
        /// Number of heads that the channels are shared among.
        heads: i64,
    },
    /// `[N,T,C]` to the class token's `[N,C]`.
    ClassToken,
    /// What follows is the classifier: the activations are the embedding.
    Embedding,
    /// The activations are the output of the stage of this name.
    Stage(String),
    /// x ↦ shortcut(x) + main(x), the shortcut first; an empty one is the identity.
    Residual {
        /// The longer way.
        main: Vec<Operation>,
        /// The shorter way.
        shortcut: Vec<Operation>,
    },
    /// x ↦ both branches' channels one after the other; an empty branch is the identity.
    Concatenate {
        /// Whether each branch sees its half of the channels only.
        split: bool,
        /// The branches.
        branches: [Vec<Operation>; 2],
    },
    /// x ↦ x·Wᵀ + b, on the last dimension.
    Linear {
        /// Position of the weight; the bias follows.
        weight: usize,
    },
}

impl Operation {
    /// The operations inside, in order of the forward pass.
    pub fn branches(&self) -> [&[Operation]; 2] {
        match self {
            Operation::Residual { main, shortcut } => [shortcut, main],
            Operation::Concatenate { branches: [first, second], .. } => [first, second],
            _ => [&[], &[]],
        }
    }

    /// Whether its output is memory of its own that it does not need for its gradient.
    pub(super) fn makes_its_own(&self) -> bool {
        matches!(
            self,
            Self::Convolution(_) | Self::BatchNorm(_) | Self::GroupNorm { .. } | Self::Residual { .. }
        )
    }
}
