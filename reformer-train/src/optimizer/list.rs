//! Several optimizers as one type, so that code that uses them is compiled once.

use burn::optim::Optimizer;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::record::Record;

/// The states of an optimizer, by parameter.
pub(super) type States<O, M, B> = <OptimizerAdaptor<O, M, B> as Optimizer<M, B>>::Record;

/// [`States`] as they are serialised.
pub(super) type Items<O, M, B, P> = <States<O, M, B> as Record<B>>::Item<P>;

/// Defines `OptimizerConfig`, `AnyOptimizer` and `AnyRecord` from a list of optimizers: a description, the
/// name in files, the type of the settings, the name on command lines, and Burn's optimizer for a backend `B`.
///
/// Settings have the functions `usual`, `validate` and `init`. The name in files must not change: it is in
/// `config.json` and in checkpoints.
macro_rules! optimizers {
    ($(
        #[doc = $about:literal]
        $name:ident($config:ident) as $key:literal => $optimizer:ty,
    )+) => {
        /// The optimizer and its settings. Weight decay by [`DecayGroup`]s applies to every optimizer; with
        /// Adam it is AdamW.
        #[derive(Config, Debug, Copy, PartialEq)]
        pub enum OptimizerConfig {
            $(
                #[doc = $about]
                $name(
                    /// Its settings.
                    $config,
                ),
            )+
        }

        impl OptimizerConfig {
            /// The names of the optimizers on command lines, each with a description.
            pub const NAMES: &[(&str, &str)] = &[$(($key, $about.trim_ascii())),+];

            /// The optimizer with one of these [names](Self::NAMES), with its usual settings.
            pub fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($key => Some(Self::$name($config::usual())),)+
                    _ => None,
                }
            }

            /// The name of the optimizer in files, equal to that of its [state](AnyRecord::name).
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }

            /// Checks every setting.
            ///
            /// # Errors
            /// The first setting that cannot work.
            pub(crate) fn validate(&self) -> Result<(), ConfigError> {
                match self {
                    $(Self::$name(config) => config.validate(),)+
                }
            }

            /// The optimizer, before its first step.
            pub(crate) fn init<B, M>(&self) -> AnyOptimizer<M, B>
            where
                B: AutodiffBackend,
                M: AutodiffModule<B>,
            {
                match self {
                    $(Self::$name(config) => AnyOptimizer::$name(config.init()),)+
                }
            }
        }

        /// One of the optimizers.
        #[derive(Clone)]
        pub(crate) enum AnyOptimizer<M: AutodiffModule<B>, B: AutodiffBackend> {
            $($name(OptimizerAdaptor<$optimizer, M, B>),)+
        }

        /// The states of one of the optimizers, by parameter.
        #[derive(Clone)]
        pub(crate) enum AnyRecord<M: AutodiffModule<B>, B: AutodiffBackend> {
            $($name(States<$optimizer, M, B>),)+
        }

        /// An [`AnyRecord`] as it is serialised.
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(bound = "")]
        pub(crate) enum AnyItem<M: AutodiffModule<B>, B: AutodiffBackend, P: PrecisionSettings> {
            $($name(Items<$optimizer, M, B, P>),)+
        }

        impl<M: AutodiffModule<B>, B: AutodiffBackend> AnyOptimizer<M, B> {
            /// As [`Optimizer::step`].
            pub(crate) fn step(&mut self, lr: LearningRate, module: M, grads: GradientsParams) -> M {
                match self {
                    $(Self::$name(optimizer) => optimizer.step(lr, module, grads),)+
                }
            }

            /// As [`Optimizer::to_record`].
            pub(crate) fn to_record(&self) -> AnyRecord<M, B> {
                match self {
                    $(Self::$name(optimizer) => AnyRecord::$name(optimizer.to_record()),)+
                }
            }

            /// As [`Optimizer::load_record`].
            ///
            /// # Panics
            /// On the state of another optimizer: compare their [names](AnyRecord::name) first.
            pub(crate) fn load_record(self, record: AnyRecord<M, B>) -> Self {
                match (self, record) {
                    $((Self::$name(optimizer), AnyRecord::$name(record)) => {
                        Self::$name(optimizer.load_record(record))
                    })+
                    (_, record) => panic!("the state is of another optimizer: {}", record.name()),
                }
            }
        }

        impl<M: AutodiffModule<B>, B: AutodiffBackend> AnyRecord<M, B> {
            /// The name of the optimizer in files.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }

            /// The states of some parameters.
            pub(crate) fn filter(self, ids: &HashSet<ParamId>) -> Self {
                match self {
                    $(Self::$name(mut states) => {
                        states.retain(|id, _| ids.contains(id));
                        Self::$name(states)
                    })+
                }
            }

            /// These states and those of other parameters.
            ///
            /// # Panics
            /// On the state of another optimizer: compare their [names](Self::name) first.
            pub(crate) fn merge(self, others: Self) -> Self {
                match (self, others) {
                    $((Self::$name(mut states), Self::$name(others)) => {
                        states.extend(others);
                        Self::$name(states)
                    })+
                    (_, others) => panic!("the state is of another optimizer: {}", others.name()),
                }
            }
        }

        impl<M: AutodiffModule<B>, B: AutodiffBackend> Record<B> for AnyRecord<M, B> {
            type Item<P: PrecisionSettings> = AnyItem<M, B, P>;

            fn into_item<P: PrecisionSettings>(self) -> Self::Item<P> {
                match self {
                    $(Self::$name(states) => AnyItem::$name(states.into_item()),)+
                }
            }

            fn from_item<P: PrecisionSettings>(item: Self::Item<P>, device: &B::Device) -> Self {
                match item {
                    $(AnyItem::$name(item) => Self::$name(Record::<B>::from_item(item, device)),)+
                }
            }
        }
    };
}

pub(super) use optimizers;
