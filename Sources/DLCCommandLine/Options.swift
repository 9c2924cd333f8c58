import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCRuntime
import DLCTensor

/// A size for a named dimension, as `n=8`.
struct DimensionOption: ExpressibleByArgument {
  var name: String
  var size: Int

  init?(argument: String) {
    let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
    guard parts.count == 2, let size = Int(parts[1]) else { return nil }
    (name, self.size) = (parts[0], size)
  }
}

/// A number of bytes, as `64MiB`, `1GB` or `4096`.
struct ByteCount: ExpressibleByArgument {
  var bytes: Int

  init?(argument: String) {
    let units = [
      ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000),
      ("GB", 1_000_000_000),
      ("B", 1), ("", 1),
    ]
    for (unit, factor) in units where argument.hasSuffix(unit) {
      guard let count = Int(argument.dropLast(unit.count)), count >= 0 else { return nil }
      let (product, overflow) = count.multipliedReportingOverflow(by: factor)
      guard !overflow else { return nil }
      bytes = product
      return
    }
    return nil
  }
}

/// How many threads a command computes with.
struct WorkerOptions: ParsableArguments {
  @Option(help: "Worker threads; results do not depend on it.") var threads: Int?

  func validate() throws {
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads must be between 1 and 1024")
    }
  }
}

/// What names a function of a model and its sizes.
struct ModelOptions: ParsableArguments {
  @ArgumentParser.Argument(
    help: "A graph (.pb), a compiled program (.dlc) or an ONNX model; told apart by content.")
  var model: String

  @Option(help: "The function, when the model has several and none is called 'forward'.")
  var function: String?

  @OptionGroup var sizing: SizeOptions

  var dimensions: [DimensionOption] { sizing.dimensions }
  var sizes: [String: Int] { get throws { try sizing.sizes } }
}

/// Sizes of named dimensions.
struct SizeOptions: ParsableArguments {
  @Option(name: .customLong("dim"), help: "The size of a named dimension, as n=8; may be repeated.")
  var dimensions: [DimensionOption] = []

  func validate() throws {
    for dimension in dimensions where dimension.size < 0 {
      throw ValidationError(
        "the size of --dim \(dimension.name) cannot be negative, as \(dimension.size) is")
    }
  }

  var sizes: [String: Int] {
    get throws {
      var result: [String: Int] = [:]
      for dimension in dimensions {
        if result.updateValue(dimension.size, forKey: dimension.name) != nil {
          throw ValidationError("--dim \(dimension.name) is given twice")
        }
      }
      return result
    }
  }
}

/// A value for an input that a graph is built for, as `axes=0,2`.
struct ValueOption: ExpressibleByArgument {
  var name: String
  var numbers: [Double]

  init?(argument: String) {
    guard let split = argument.lastIndex(of: "=") else { return nil }
    name = String(argument[..<split])
    numbers = []
    for part in argument[argument.index(after: split)...].split(separator: ",") {
      guard let number = part == "true" ? 1 : part == "false" ? 0 : Double(part) else { return nil }
      numbers.append(number)
    }
  }
}

/// What an ONNX model is imported for.
struct ImportOptions: ParsableArguments {
  @Option(
    name: .customLong("value"),
    help: "The value of an ONNX model's input that shapes depend on, as axes=0,2; may be repeated.")
  var values: [ValueOption] = []

  func tensors(for model: ONNXModel) throws -> [String: Tensor] {
    var result: [String: Tensor] = [:]
    for value in values {
      guard let input = model.inputTypes.first(where: { $0.name == value.name }) else {
        throw DLCError(
          .binding, "the model has no input '\(value.name)'",
          remedy: Spelling.remedy(for: value.name, among: model.inputTypes.map(\.name)))
      }
      guard input.type.rank <= 1 else {
        throw DLCError(
          .binding,
          "input '\(value.name)' is \(input.type): --value is for numbers and lists of them")
      }
      let shape = input.type.rank == 0 && value.numbers.count == 1 ? [] : [value.numbers.count]
      result[value.name] = try Tensor(.float64, shape, rounding: value.numbers).fitted(
        to: input.type.dataType, name: value.name)
    }
    return result
  }
}

/// A model file, by its content.
enum LoadedModel {
  case module(Module)
  case program(ProgramFile.Contents)
  case onnx(ONNXModel)
  /// An ONNX model that runs in parts, and the program of the first.
  case part(ONNXModel, ProgramFile.Contents)

  init(_ path: String) throws(DLCError) {
    let file = try MappedFile(path)
    if ProgramFile.isProgram(file.bytes) {
      let contents = try ProgramFile.read(file)
      if let model = try ONNXModel(carriedBy: contents) {
        self = .part(model, contents)
      } else {
        self = .program(contents)
      }
    } else if ONNXModel.isModel(file.bytes) {
      self = .onnx(try ONNXModel(file))
    } else {
      do throws(DLCError) {
        self = .module(try ModuleFile.decode(file.bytes, path: path))
      } catch {
        var error = error
        if error.code == .format && error.remedy.isEmpty {
          error.remedy = "a model is a graph (.pb), a compiled program (.dlc) or an ONNX model"
        }
        throw error
      }
    }
  }

  /// The graph: a program carries the one that it was made from.
  var module: Module {
    get throws(DLCError) {
      switch self {
      case .module(let module): return module
      case .onnx(let model), .part(let model, _): return try model.module()
      case .program(let contents):
        guard !contents.module.isEmpty else {
          throw DLCError(
            .unsupported, "the program does not carry its graph", at: contents.file.path)
        }
        var module = try ModuleFile.decode(contents.module, path: contents.file.path)
        for (name, value) in contents.states { try module.setValue(value, of: name) }
        return module
      }
    }
  }
}

extension LoadedModel {
  /// Whether it is a model of ONNX, which sizes and values are bound in when it is imported.
  var isONNX: Bool {
    switch self {
    case .onnx, .part: true
    case .module, .program: false
    }
  }

  /// What is known of an ONNX model before it runs: of a program in parts for the sizes that it was compiled for, unless
  /// others are given. Nil for other models.
  func outline(sizes: [String: Int], _ imports: ImportOptions) throws -> ONNXModel.Outline? {
    var bindings = ONNXModel.Bindings(sizes: sizes)
    switch self {
    case .onnx(let model):
      bindings.values = try imports.tensors(for: model)
      return try model.outline(bindings)
    case .part(let model, let contents):
      bindings.values = try imports.tensors(for: model)
      if sizes.isEmpty {
        for (name, type) in contents.inputs { bindings.shapes[name] = type.sizes }
      }
      return try model.outline(bindings)
    case .module, .program: return nil
    }
  }

  /// The graph, or of an ONNX model that runs in parts the first one, as far as it is known without a run.
  /// - Returns: the graph, and of a part what to say of it.
  func known(sizes: [String: Int], _ imports: ImportOptions) throws -> (Module, cut: String?) {
    guard let outline = try outline(sizes: sizes, imports) else {
      guard imports.values.isEmpty else {
        throw DLCError(.usage, "--value is for ONNX models")
      }
      return (try module, nil)
    }
    guard let module = outline.module else {
      throw DLCError(
        .unsupported, "nothing of the model comes before the cut: \(outline.cut ?? "")",
        remedy: "dlc run takes it in parts" + ONNXModel.hint(outline.deciding))
    }
    return (
      module,
      outline.cut.map {
        "the first part of the model, which is cut where \($0); \(counted(outline.laterCount, "node comes", "nodes come")) later"
      }
    )
  }
}

extension Module {
  /// The sizes of a function's dimensions that nobody said; nil where all are.
  func sizesByDefault(of function: Function, besides said: [String: Int]) -> String? {
    let used = function.graph.dimensionNames
    let chosen = dimensions.filter { used.contains($0.name) && said[$0.name] == nil }
    return chosen.isEmpty
      ? nil : chosen.map { "\($0.name)=\($0.size)" }.joined(separator: " ")
  }

  /// Stores the tensors of a safetensors file as values of the states.
  /// - Returns: what was converted.
  mutating func setValues(from path: String) throws(DLCError) -> [String] {
    let given = try StateValues(
      path, for: states.map { ($0.name, $0.type.dataType) }, of: "module '\(name)'")
    for (name, value) in given.values {
      do throws(DLCError) { try setValue(value, of: name) } catch { throw error.within(path) }
    }
    return given.notes
  }
}

extension DLCError {
  /// What is wrong with arrays names the file that they are from.
  /// - Parameter other: another file, which the error may name already.
  static func naming<R>(
    _ path: String?, unless other: String? = nil, _ body: () throws(DLCError) -> R
  ) throws(DLCError) -> R {
    do throws(DLCError) { return try body() } catch {
      guard let path, error.code == .binding,
        ![path, other].compactMap(\.self).contains(where: error.location.contains)
      else { throw error }
      throw error.within(path)
    }
  }
}

/// The path of a model without what its kind ends with.
func stem(_ path: String) -> String {
  for ending in [".pb", ".onnx"] where path.hasSuffix(ending) {
    return String(path.dropLast(ending.count))
  }
  return path
}

func milliseconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) * 1e3 + Double(duration.components.attoseconds) * 1e-15
}

/// A number with a fixed count of digits after the point.
func fixed(_ value: Double, _ digits: Int) -> String {
  if value.isNaN { return "nan" }
  if !value.isFinite { return "\(value)" }
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  guard abs(value) * scale < 1e18 else { return "\(value)" }
  let scaled = Int((abs(value) * scale).rounded())
  let whole = scaled / Int(scale)
  let rest = String(scaled % Int(scale))
  let sign = value < 0 && scaled != 0 ? "-" : ""
  return digits == 0
    ? "\(sign)\(whole)"
    : "\(sign)\(whole)." + String(repeating: "0", count: digits - rest.count) + rest
}

/// Bytes for people.
func size(_ bytes: Int) -> String {
  if bytes < 1 << 10 { return "\(bytes) B" }
  if bytes < 1 << 20 { return fixed(Double(bytes) / 0x1p10, 1) + " KiB" }
  if bytes < 1 << 30 { return fixed(Double(bytes) / 0x1p20, 1) + " MiB" }
  return fixed(Double(bytes) / 0x1p30, 2) + " GiB"
}

/// Rows in aligned columns.
func table(_ rows: [[String]]) -> String {
  let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    var line = ""
    for (column, cell) in row.enumerated() {
      line +=
        column == row.count - 1
        ? cell : cell + String(repeating: " ", count: widths[column] - cell.count + 2)
    }
    return line
  }.joined(separator: "\n")
}
