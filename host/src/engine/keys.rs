//! What determines the outcome of each stage, put into a sum: stages of equal sums give equal bits, on one machine and with
//! one number of threads, and are run once.

use crate::{
    plan::{Plan, StudentPlan, VariantPlan},
    recipe::Training,
    run::{Shard, key},
};
use serde_json::{Value, json};

/// The sums of a variant's stages.
pub(super) struct StageKeys<'a> {
    /// The plan, complete.
    pub plan: &'a Plan,
    /// The variant.
    pub variant: &'a VariantPlan,
    /// How many images there are to train and to evaluate on.
    pub images: [usize; 2],
}

impl StageKeys<'_> {
    /// What all stages depend on. What is evaluated on is no part of it, unless it is taken from the training images.
    fn common(&self) -> Value {
        let plugins = self.plan.plugins.iter().map(|plugin| (&plugin.id, &plugin.blake3));
        let mut data = self.variant.recipe.data.clone();
        data.test_images = None;
        json!({
            "seed": self.plan.seed,
            "plugins": plugins.collect::<Vec<_>>(),
            "data": data,
            "images": self.images[0],
            "split": self.variant.recipe.evaluate.split,
        })
    }

    /// Of the network trained on real data.
    pub fn teacher(&self) -> String {
        key(&json!(["train", self.common(), self.variant.network, self.variant.recipe.training]))
    }

    /// Of the teacher, where there is one.
    fn teacher_if_any(&self) -> Option<String> {
        self.variant.trains_teacher.then(|| self.teacher())
    }

    /// Of an expert's trajectory.
    pub fn expert(&self, trajectory: u64) -> String {
        let VariantPlan { recipe, network, .. } = self.variant;
        let training = Training { epochs: recipe.experts.epochs, ..recipe.training.clone() };
        key(&json!(["expert", self.common(), self.images[1], network, training, trajectory]))
    }

    /// Of the synthetic images and what stands beside them.
    pub fn distilled(&self) -> String {
        let VariantPlan { recipe, network, distillation, .. } = self.variant;
        let (labels, temperature) = (recipe.relabel.labels, recipe.relabel.temperature);
        let made_by = json!([network, recipe.training, recipe.experts, recipe.distill, distillation]);
        key(&json!(["distill", self.common(), self.teacher_if_any(), made_by, labels, temperature]))
    }

    /// Of a part of the images.
    pub fn part(&self, shard: Shard) -> String {
        key(&json!(["part", self.distilled(), shard]))
    }

    /// Of the labels that the teacher gives in advance.
    pub fn stored_labels(&self) -> String {
        key(&json!(["relabel", self.distilled(), self.learning()]))
    }

    /// How students learn, whatever their number.
    fn learning(&self) -> Value {
        let mut student = self.variant.recipe.student.clone();
        student.count = 0;
        json!([self.variant.recipe.relabel, student])
    }

    /// Of a student, whose files are called `file`.
    pub fn student(&self, network: &StudentPlan, number: u64, file: &str) -> String {
        key(&json!(["student", self.distilled(), self.learning(), network.network, number, file]))
    }

    /// Of what is measured of the network with the sum `network`, in files called `file`.
    pub fn evaluation(&self, network: &str, file: &str) -> String {
        let VariantPlan { recipe, surrogates, budgets, .. } = self.variant;
        let budgets: Vec<Value> = budgets.iter().map(|budget| json!([budget.norm, budget.epsilon])).collect();
        let attackers = json!([recipe.evaluate, surrogates, budgets, self.teacher_if_any()]);
        let seen = json!([recipe.data.test_images, self.images[1]]);
        key(&json!(["evaluate", self.common(), seen, network, attackers, file]))
    }
}
