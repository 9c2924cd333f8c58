import DLCCompiler
import DLCData
import DLCFormats
import DLCGraph
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTraining

/// Draws from a trained model by the function that its recipe names.
struct Sampling {
  /// How many are drawn; nil: as many as the program was compiled for, or 64 images and 1 text.
  var count: Int?
  var seed: UInt64 = 0
  var settings: [Setting] = []
  /// Arrays for inputs that are neither a seed nor a setting.
  var arrays: String?
  var sizes: [String: Int] = [:]
  var function: String?
  var threads: Int?

  typealias Outputs = [(name: String, value: Tensor)]

  /// Draws from a module that stores values for its parameters.
  func draw(from module: Module) throws(DLCError) -> Outputs {
    let function = try function(of: module)
    try DLCError.requireTrained(module.untrained(by: function), function.name)
    let inputs = try inputs(of: function.inputs, module.recipe)
    var sizes = sizes
    if let name = countDimension(function) {
      let size = sizes[name] ?? count ?? (isText(function, module.recipe) ? 1 : 64)
      guard count ?? size == size else {
        throw DLCError(.usage, "--dim \(name)=\(size) contradicts --count \(count!)")
      }
      sizes[name] = size
    } else if let count {
      throw DLCError(
        .usage, "function '\(function.name)' does not draw --count \(count): its number is fixed")
    }
    let shapes = function.inputs.compactMap { input in
      inputs[input.name].map { (name: input.name, declared: input.type, shape: $0.shape) }
    }
    let (executable, _) = try Compiler().load(
      module, function: function.name,
      dimensions: try module.bind(explicit: sizes, arrays: shapes), cache: .standard)
    return try run(executable, inputs)
  }

  /// Draws by a compiled program, which holds its weights; compiles again for other sizes, where it carries
  /// its graph.
  func draw(from program: ProgramFile.Contents, _ module: Module?) throws(DLCError) -> Outputs {
    if let module {
      let wanted = try function(of: module)
      let isOther = function != nil && wanted.name != program.program.function
      let dimension = countDimension(wanted)
      let compiled = program.program.outputs.first.flatMap {
        program.program[$0.buffer].shape.first
      }
      if isOther || !sizes.isEmpty || count != nil && (dimension == nil || count != compiled)
        || !Executable.missingFeatures(program.program).isEmpty
      {
        return try draw(from: module)
      }
    } else if count != nil || !sizes.isEmpty || function != nil {
      throw DLCError(
        .usage, "the program does not carry its graph: it draws what it was compiled for",
        at: program.file.path)
    }
    let executable = try Executable(program)
    let missing = Set(executable.missingState)
    try DLCError.requireTrained(
      executable.program.states.filter { $0.isParameter && missing.contains($0.name) }.map(\.name),
      executable.program.function)
    return try run(executable, try inputs(of: program.inputs, module?.recipe))
  }

  private func run(_ executable: Executable, _ inputs: [String: Tensor]) throws(DLCError) -> Outputs
  {
    try executable.requireMemory(threads: threads, besides: 0)
    try executable.initializeState(seed: seed)
    return try executable.run(inputs, threads: threads)
  }

  /// The function that draws.
  private func function(of module: Module) throws(DLCError) -> Function {
    guard let name = function ?? module.recipe?.sample else {
      throw DLCError(
        .graph, "module '\(module.name)' does not say which of its functions draws samples",
        remedy: "--function names one of \(module.functions.map(\.name).joined(separator: ", "))")
    }
    return try module.existing(name)
  }

  /// The dimension that says how many are drawn: the first axis of the first output.
  private func countDimension(_ function: Function) -> String? {
    function.outputs.first?.type.shape.first?.name
  }

  private func isText(_ function: Function, _ recipe: Recipe?) -> Bool {
    function.outputs.contains { output in
      if case .token? = recipe?.meanings[output.name] { return true }
      return false
    }
  }

  /// Values for all inputs.
  private func inputs(of inputs: [(name: String, type: TensorType)], _ recipe: Recipe?)
    throws(DLCError) -> [String: Tensor]
  {
    var values = Recipe.seeds(for: inputs, seed: seed)
    values.merge(recipe?.defaults(for: inputs) ?? [:], uniquingKeysWith: { given, _ in given })
    var seen: Set<String> = []
    for setting in settings {
      guard seen.insert(setting.name).inserted else {
        throw DLCError(.usage, "the setting '\(setting.name)' is given twice")
      }
      guard let type = inputs.first(where: { $0.name == setting.name })?.type, type.rank == 0 else {
        let scalars = inputs.filter { $0.type.rank == 0 }.map(\.name)
        throw DLCError(
          .usage, "there is no setting '\(setting.name)'",
          remedy: scalars.isEmpty
            ? "there are none" : Spelling.remedy(for: setting.name, among: scalars))
      }
      try setting.validate()
      values[setting.name] = try Tensor([], [setting.value]).fitted(
        to: type.dataType, name: setting.name)
    }
    if let arrays {
      let given = try InputArrays(arrays, for: inputs, optional: Set(values.keys))
      given.notes.forEach(Console.note)
      values.merge(given.values, uniquingKeysWith: { $1 })
    }
    return values
  }
}

extension DLCError {
  /// - Parameter missing: the state without values that a function reads.
  static func requireTrained(_ missing: [String], _ function: String) throws(DLCError) {
    guard !missing.isEmpty else { return }
    throw DLCError(
      .binding,
      "the model is not trained: function '\(function)' has no values for \(Spelling.list(missing))",
      remedy:
        "train it ('dlc zoo train', 'dlc train -o MODEL.pb'), or give --params; a compiled program has the values of its own function alone"
    )
  }
}

/// Checks the name of a picture.
/// - Throws: `.usage` for one of another format.
func requirePicture(_ path: String?) throws(DLCError) {
  guard let path else { return }
  let other = [".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".npz"]
  if let suffix = other.first(where: { path.lowercased().hasSuffix($0) }) {
    throw DLCError(.usage, "a picture is written as PNG, not as \(suffix)", at: path)
  }
}

/// Samples as people look at them.
struct Samples {
  let outputs: Sampling.Outputs
  let recipe: Recipe?

  /// The first output that means pictures.
  var picture: (name: String, value: Tensor, height: Int, width: Int)? {
    for (name, value) in outputs {
      if case .image(let height, let width, _)? = recipe?.meanings[name] {
        return (name, value, height, width)
      }
    }
    return nil
  }

  /// The texts that the first output of tokens stands for.
  var texts: [String]? {
    for (name, value) in outputs {
      guard case .token(let alphabet)? = recipe?.meanings[name], !alphabet.isEmpty,
        value.shape.count == 2
      else { continue }
      let characters = Array(alphabet.unicodeScalars)
      let codes = value.integers
      let length = value.shape[1]
      return (0..<value.shape[0]).map { row in
        var text = ""
        for code in codes[row * length..<(row + 1) * length] {
          text.unicodeScalars.append(
            characters.indices.contains(Int(code)) ? characters[Int(code)] : "\u{FFFD}")
        }
        return text
      }
    }
    return nil
  }

  /// Writes the picture and the arrays where they are asked for.
  func write(picture path: String?, arrays arraysPath: String?, columns: Int? = nil)
    throws(DLCError)
  {
    if let path {
      guard let picture else {
        throw DLCError(
          .usage, "nothing that is drawn is a picture", at: path,
          remedy: "the outputs are \(outputs.map(\.name).joined(separator: ", "))")
      }
      let side = max(picture.height, picture.width)
      try Picture(
        picture.value, height: picture.height, width: picture.width, columns: columns,
        zoom: side <= 16 ? 6 : side <= 64 ? 2 : 1
      ).write(path)
    }
    if let arraysPath { try Npz.write(outputs, to: arraysPath) }
  }

  var json: JSON {
    let list = outputs.map {
      JSON.object([("name", .text($0.name)), ("type", .text("\($0.value.type)"))])
    }
    var fields: [(String, JSON)] = [("outputs", .list(list))]
    if let texts { fields.append(("texts", .list(texts.map { .text($0) }))) }
    return .object(fields)
  }

  /// Shows texts on standard output, or on a terminal the picture; else, where nothing was written, a summary.
  func show(columns: Int? = nil, isWritten: Bool) throws(DLCError) {
    if let texts {
      return try Console.result(texts.joined(separator: "\n----------------\n"))
    }
    if let picture, Terminal.isTerminal {
      let width = Terminal.width
      let drawn = try Picture(
        picture.value, height: picture.height, width: picture.width,
        columns: columns ?? Picture.columns(ofWidth: picture.width, within: width))
      return try Console.result(drawn.text(within: width), terminator: "")
    }
    if !isWritten { try Console.result(Summary.table(outputs.map { Summary($0.name, $0.value) })) }
  }
}
