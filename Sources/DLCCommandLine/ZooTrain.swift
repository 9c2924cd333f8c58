import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining
import DLCZoo

extension ZooCommand {
  struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Trains a model family on real data, measures it and draws samples.",
      discussion: """
        'dlc zoo list' names the families (models/FAMILY). Their data are made by Tools/data: SET_train.npz and \
        SET_test.npz in one directory. What is written with -o is one file that holds the graph, its weights and its \
        recipe, for 'dlc sample', 'dlc evaluate', 'dlc run' and 'dlc compile'.
        """)

    @ArgumentParser.Argument(help: "The family, such as vae.") var family: String
    @Option(help: "The directory with the data.") var data = "data"
    @Option(help: "How many samples are drawn at the end.") var sample: Int?
    @Option(help: "Where the picture of the samples goes (.png).") var picture: String?
    @Option(help: "Where the arrays of the samples go (.npz).") var samples: String?
    @Option(
      name: .customShort("o"),
      help: ArgumentHelp("Where the trained model goes (.pb).", valueName: "file"))
    var output: String?
    @OptionGroup(title: "What the recipe says") var recipe: RecipeOptions
    @OptionGroup(title: "The run") var flags: RunOptions

    func validate() throws {
      if let sample, sample < 1 {
        throw ValidationError("--sample is \(sample): it must be positive")
      }
      if flags.json && output == "-" {
        throw ValidationError("only one thing can go to standard output")
      }
    }

    func run() throws {
      Interruption.install()
      guard let model = Zoo.family(family) else {
        throw DLCError(
          .usage, "there is no family '\(family)'",
          remedy: Spelling.remedy(for: family, among: Zoo.families.map(\.family)))
      }
      let module = try model.module()
      let recipe = try recipe.recipe(of: module, function: nil)
      try requireSamples(of: module)
      try requirePicture(picture)
      if let output, [".safetensors", ".dlc", ".npz"].contains(where: output.hasSuffix) {
        throw DLCError(
          .usage, "a trained family is written as a model file", at: output,
          remedy: "give it a name that ends in .pb")
      }
      for path in [output, picture, samples].compactMap(\.self) {
        try OutputFile.requirePlace(path)
      }
      let (train, test) = try model.dataFiles(in: data)
      try OutputFile.requireDistinct(
        [("-o", output), ("--picture", picture), ("--samples", samples), ("--log", flags.log)],
        inputs: [("the training data", train), ("the test data", test)])
      var run = try TrainingRun(
        module, recipe, flags, data: train, validation: flags.best == nil ? nil : test, sizes: [:],
        silent: ZooModel.dataArrays)
      if output == nil, flags.checkpoint == nil {
        run.add(note: "the model is not kept: -o or --checkpoint says where")
      }
      let (metrics, seconds, stop) = try run.run()
      let trained = try run.trainer.module()
      if let output, run.isWritten(stop) { try ModuleFile.writeWhole(trained, to: output) }
      if let stop {
        try run.report(metrics, seconds, stop.name, json: flags.json)
        try run.leave(stop, output)
      }
      var more: [(name: String, value: JSON)] = []
      if trained.recipe?.evaluation != nil {
        let start = ContinuousClock.now
        let measured = try trained.measured(
          by: nil, on: test, batch: recipe.batch, threads: flags.workers.threads,
          silent: ZooModel.dataArrays)
        more = measured.map { ("test_\($0.name)", .number($0.value)) }
        more.append(
          ("evaluation_seconds", .rounded((ContinuousClock.now - start) / .seconds(1), digits: 3)))
      }
      let start = ContinuousClock.now
      let drawn = try draw(trained)
      if drawn != nil {
        more.append(
          ("sampling_seconds", .rounded((ContinuousClock.now - start) / .seconds(1), digits: 3)))
      }
      try run.report(metrics, seconds, nil, json: flags.json, more: more)
      try drawn?.write(picture: picture, arrays: samples)
      if flags.json { return }
      for (name, value) in more { try Console.result("\(name) \(value)") }
      try drawn?.show(isWritten: picture != nil || samples != nil)
    }

    /// Checks before the training what is asked for after it.
    private func requireSamples(of module: Module) throws {
      guard let name = module.recipe?.sample, let function = module.function(name) else {
        if sample != nil || picture != nil || samples != nil {
          throw ValidationError("the family '\(family)' draws no samples")
        }
        return
      }
      let draws = function.outputs.contains { output in
        if case .image? = module.recipe?.meanings[output.name] { return true }
        return false
      }
      if picture != nil && !draws {
        throw ValidationError("the family '\(family)' draws no pictures: leave --picture out")
      }
    }

    /// Samples, where the family draws some.
    private func draw(_ module: Module) throws -> Samples? {
      guard module.recipe?.sample != nil else { return nil }
      var sampling = Sampling(count: sample, seed: flags.seed)
      sampling.threads = flags.workers.threads
      return Samples(outputs: try sampling.draw(from: module), recipe: module.recipe)
    }
  }
}

extension ZooModel {
  /// What the families' data have: not every family takes all of it.
  fileprivate static let dataArrays: Set<String> = ["x", "y"]

  /// The files that a family is trained and measured on.
  /// - Throws: `.file` when they are not there.
  fileprivate func dataFiles(in directory: String) throws(DLCError) -> (train: String, test: String)
  {
    let files = ["train", "test"].map { "\(directory)/\(dataSet ?? "")_\($0).npz" }
    for file in files where !MappedFile.exists(file) {
      throw DLCError(
        .file, "there are no data for the family '\(family)': it is trained on '\(dataSet ?? "")'",
        at: file, remedy: "Tools/data \(directory) makes them; --data names another directory")
    }
    return (files[0], files[1])
  }
}
