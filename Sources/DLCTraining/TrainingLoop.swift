import DLCGraph

/// The function that takes several training steps in one call: a scan that carries all state.
///
/// Its inputs are whole data sets [examples, ...] under the names of the step's inputs, `order`
/// [steps, batch] int32 with the rows of each step, and `seed`; its results are the metrics of every
/// step, [steps]. What it adds to the module's names is called as nothing of the module is.
struct TrainingLoop {
  var module: Module
  let name = "train"
  /// Inputs.
  let order: String
  let seed: String
  /// Dimensions.
  let examples: String
  let steps: String

  /// - Parameter module: dimensions and state, without functions.
  init(_ module: Module, inputs: [String]) {
    /// A name that is not taken.
    func free(_ name: String, _ taken: [String]) -> String {
      var name = name
      while taken.contains(name) { name += "_" }
      return name
    }
    let dimensions = module.dimensions.map(\.name)
    self.module = module
    order = free("order", inputs)
    seed = free(TrainingStep.seedName, inputs)
    examples = free("examples", dimensions)
    steps = free("steps", dimensions)
    self.module.dimension(examples, default: 1024)
    self.module.dimension(steps, default: 1)
  }
}
