import CMachine
package import DLCProgram
public import DLCTensor
import Synchronization

/// A compiled function, ready to run: program, code, constants and state.
///
/// Results do not depend on the number of threads. Nor does a row's result depend on the rows beside it: a
/// program for one example and one for a batch of them give that example the same bits, on the same
/// kind of machine, where the function does not mix examples itself.
///
/// Safe to use from several threads: each run has its own memory. Runs that update state follow one
/// another; the others see the state as it was when they started.
///
/// ```swift
/// let executable = try Compiler().compile(module)
/// try executable.setState(["w": Tensor([2, 3], .float32)])
/// let results = try executable.run(["x": Tensor([1, 10], .float32)])
/// let y = results[0].value.doubles  // [2, 30]
/// ```
public final class Executable: Sendable {
  package let program: Program
  let code: CodeMemory
  /// In the order of the program's entries.
  let hostFunctions: [HostFunction]
  private let constants: TensorStorage
  private let store: Mutex<Store>
  private let contexts = Mutex<[Context]>([])
  private let updating = Mutex<Void>(())

  /// States whose updates overwrite them where they lie.
  private let isInPlace: [Bool]

  /// - Parameters:
  ///   - prepared: what preparation computes for the states' stored values, if it is known.
  ///   - states: values by name; the others have none until `setState`.
  ///   - hostFunctions: by name, those that the program calls; others are ignored.
  /// - Throws: `.format` when the program's parts do not fit together, `.binding` when it calls a host
  ///   function that is not given.
  package init(
    _ program: Program, code: CodeMemory, constants: TensorStorage, prepared: TensorStorage?,
    states: [String: Tensor], hostFunctions: [String: HostFunction] = [:]
  ) throws(DLCError) {
    try program.verify(codeBytes: code.size)
    var functions: [HostFunction] = []
    for entry in program.hostFunctions {
      guard let function = hostFunctions[entry.name] else {
        throw DLCError(
          .binding, "the program calls the host function '\(entry.name)', which is not registered",
          remedy: Spelling.remedy(for: entry.name, among: hostFunctions.keys.sorted()))
      }
      functions.append(function)
    }
    self.hostFunctions = functions
    guard constants.bytes.count >= program.constantBytes else {
      throw DLCError(.format, "the program's constants are incomplete")
    }
    self.program = program
    self.code = code
    self.constants = constants
    let values = program.states.map { states[$0.name]?.storage }
    store = Mutex(
      Store(values: values, prepared: prepared, spares: values.map { _ in nil }))
    var hasNext = program.states.map { _ in false }
    for buffer in program.buffers {
      if case .nextState(let i) = buffer.place { hasNext[i] = true }
    }
    isInPlace = zip(program.states, hasNext).map { $0.isUpdated && !$1 }
  }

  // MARK: What it takes and gives

  /// Name and type of each input.
  public var inputs: [(name: String, type: TensorType)] {
    program.inputs.map {
      ($0.name, TensorType(program[$0.buffer].type, sizes: program[$0.buffer].shape))
    }
  }

  /// Name and type of each result.
  public var outputs: [(name: String, type: TensorType)] {
    program.outputs.map {
      ($0.name, TensorType(program[$0.buffer].type, sizes: program[$0.buffer].shape))
    }
  }

  /// Name and type of each state tensor.
  public var states: [(name: String, type: TensorType)] {
    program.states.map { ($0.name, TensorType($0.type, sizes: $0.shape)) }
  }

  /// Sets state tensors by name, all of them at once: a run that updates state is waited for, so that it
  /// neither sees some of the new values nor overwrites them at its end; runs that only read state, and
  /// have begun, go on with the old values. The arrays are shared, not copied: what later runs make of
  /// the state does not show in them.
  /// - Throws: `.binding` for an unknown name or a value of another type; then nothing has changed.
  public func setState(
    _ values: [String: Tensor], file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      let known = Dictionary(
        program.states.indices.map { (program.states[$0].name, $0) },
        uniquingKeysWith: { first, _ in first })
      var positions: [(Int, TensorStorage)] = []
      for (name, value) in values {
        guard let position = known[name] else {
          throw DLCError(
            .binding, "the program has no state '\(name)'",
            remedy: Spelling.remedy(for: name, among: program.states.map(\.name)))
        }
        try value.check()
        let wanted = TensorType(
          program.states[position].type, sizes: program.states[position].shape)
        guard value.type == wanted else {
          throw DLCError(.binding, "state '\(name)' is \(wanted), the value is \(value.type)")
        }
        positions.append((position, value.storage))
      }
      updating.withLock { _ in
        store.withLock { store in
          for (position, storage) in positions { store.values[position] = storage }
          if !positions.isEmpty { store.prepared = nil }
        }
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// Gives all state away: afterwards there is none until it is set.
  package func takeState() -> [String: Tensor] {
    updating.withLock { _ in
      store.withLock { store in
        var result: [String: Tensor] = [:]
        for (position, port) in program.states.enumerated() {
          guard let value = store.values[position] else { continue }
          result[port.name] = Tensor(dataType: port.type, shape: port.shape, storage: value)
          store.values[position] = nil
        }
        store.prepared = nil
        return result
      }
    }
  }

  /// The present value of each state tensor that has one.
  public var state: [String: Tensor] {
    // A run may be writing to it.
    updating.withLock { _ in
      store.withLock { store in
        var result: [String: Tensor] = [:]
        for (port, value) in zip(program.states, store.values) {
          if let value {
            result[port.name] = Tensor(dataType: port.type, shape: port.shape, storage: value)
          }
        }
        return result
      }
    }
  }

  /// The names of state tensors without a value.
  public var missingState: [String] {
    store.withLock { store in zip(program.states, store.values).filter { $0.1 == nil }.map(\.0.name)
    }
  }

  /// What preparation computed, so that it can be stored with the program.
  package func preparedArea() throws(DLCError) -> TensorStorage {
    try updating.withLock { _ throws(DLCError) in try snapshot().prepared }
  }

  // MARK: Running

  /// How far a run goes with the loop that carries its state, when that is not to its end.
  package struct Extent: Sendable {
    package var iterations: Int
    /// Asked before every iteration: whether the loop ends there.
    package var isStopped: (@Sendable () -> Bool)?

    package init(iterations: Int, isStopped: (@Sendable () -> Bool)? = nil) {
      self.iterations = iterations
      self.isStopped = isStopped
    }
  }

  /// Runs only so many iterations of the loop that carries state from the beginning of the function to
  /// its end. What the loop stacks is then undefined from there on.
  package func run(_ inputs: [String: Tensor], threads: Int?, extent: Extent) throws(DLCError) -> [(
    name: String, value: Tensor
  )] {
    let context = try takeContext(
      try workerCount(threads), besides: outputs.reduce(0) { $0 + $1.type.byteCount })
    context.extent = extent
    defer {
      context.extent = nil
      contexts.withLock { $0.append(context) }
    }
    var results = try emptyResults()
    try run(inputs, into: &results, context)
    return zip(program.outputs, results).map { ($0.name, $1) }
  }

  /// Runs the function.
  /// - Parameters:
  ///   - inputs: one array for each input, by name.
  ///   - threads: how many workers; results do not depend on it.
  /// - Returns: the results in order.
  /// - Throws: `.binding` when an array is missing, unknown or of another type; state is then
  ///   unchanged.
  public func run(
    _ inputs: [String: Tensor], threads: Int? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) throws(DLCError) -> [(
    name: String, value: Tensor
  )] {
    do throws(DLCError) {
      let context = try takeContext(
        try workerCount(threads), besides: outputs.reduce(0) { $0 + $1.type.byteCount })
      defer { contexts.withLock { $0.append(context) } }
      var results = try emptyResults()
      try run(inputs, into: &results, context)
      return zip(program.outputs, results).map { ($0.name, $1) }
    } catch {
      throw error.called(file, line)
    }
  }

  /// Runs the function into arrays that the caller keeps, so that repeated runs allocate nothing.
  /// - Parameter results: arrays of the results' types, in their order.
  /// - Throws: as the other `run`, and `.binding` when the arrays are not those of the results.
  public func run(
    _ inputs: [String: Tensor], into results: inout [Tensor], threads: Int? = nil,
    file: StaticString = #fileID, line: UInt = #line
  )
    throws(DLCError)
  {
    do throws(DLCError) {
      let context = try takeContext(try workerCount(threads))
      defer { contexts.withLock { $0.append(context) } }
      try run(inputs, into: &results, context)
    } catch {
      throw error.called(file, line)
    }
  }

  private func run(_ inputs: [String: Tensor], into results: inout [Tensor], _ context: Context)
    throws(DLCError)
  {
    var sources: [UnsafeMutableRawPointer?] = []
    sources.reserveCapacity(program.inputs.count)
    for port in program.inputs {
      let slot = program[port.buffer]
      guard let tensor = inputs[port.name] else {
        throw DLCError(
          .binding, "input '\(port.name)' is missing",
          remedy: "it is \(TensorType(slot.type, sizes: slot.shape))")
      }
      try tensor.check()
      guard tensor.dataType == slot.type, tensor.shape == slot.shape else {
        throw DLCError(
          .binding,
          "input '\(port.name)' is \(tensor.type), the program takes \(TensorType(slot.type, sizes: slot.shape))",
          remedy: tensor.dataType == slot.type && tensor.shape.count == slot.shape.count
            ? "a program has fixed sizes: compile one for these" : "")
      }
      sources.append(tensor.storage.bytes.baseAddress)
    }
    if inputs.count != program.inputs.count {
      let known = Set(program.inputs.map(\.name))
      if let extra = inputs.keys.filter({ !known.contains($0) }).min() {
        throw DLCError(
          .binding, "there is no input '\(extra)'",
          remedy: Spelling.remedy(for: extra, among: known.sorted()))
      }
    }
    guard results.count == program.outputs.count else {
      throw DLCError(
        .binding, "there are \(program.outputs.count) results, and arrays for \(results.count)",
        remedy: "the results are \(program.outputs.map(\.name).joined(separator: ", "))")
    }
    var targets: [UnsafeMutableRawPointer?] = []
    targets.reserveCapacity(results.count)
    for (index, port) in program.outputs.enumerated() {
      let slot = program[port.buffer]
      try results[index].check()
      guard results[index].dataType == slot.type, results[index].shape == slot.shape else {
        throw DLCError(
          .binding,
          "the array for result '\(port.name)' is \(results[index].type), the program gives \(TensorType(slot.type, sizes: slot.shape))"
        )
      }
      targets.append(results[index].withUnsafeMutableBytes { $0.baseAddress })
    }
    if program.states.contains(where: \.isUpdated) {
      try updating.withLock { _ throws(DLCError) in try runUpdating(context, sources, targets) }
    } else {
      let (values, prepared) = try snapshot()
      withExtendedLifetime((values, prepared, inputs)) {
        context.run(sources, targets, values, values, prepared, constants)
      }
    }
  }

  /// Memory for the results of a run, in their order.
  package func emptyResults() throws(DLCError) -> [Tensor] {
    var results: [Tensor] = []
    for port in program.outputs {
      let slot = program[port.buffer]
      results.append(
        try Tensor(reserving: slot.type, slot.shape, for: "the result '\(port.name)'"))
    }
    return results
  }

  /// Seconds that each step took in one run, the steps one after the other; for loops the sum. A run before
  /// it touches the memory for the first time.
  package func profile(_ inputs: [String: Tensor], threads: Int? = nil) throws(DLCError) -> [Double]
  {
    // Not one of the contexts that other runs may take.
    let context = try newContext(try workerCount(threads))
    var results = try emptyResults()
    for _ in 0..<2 {
      context.times = [Double](repeating: 0, count: program.steps.count)
      try run(inputs, into: &results, context)
    }
    return context.times!
  }

  /// Every tile of one run, by which worker and when; a run before it touches the memory for the first time.
  package func trace(_ inputs: [String: Tensor], threads: Int? = nil) throws(DLCError)
    -> [TileEvent]
  {
    let context = try newContext(try workerCount(threads))
    var results = try emptyResults()
    try run(inputs, into: &results, context)
    return try context.traced { () throws(DLCError) in
      try run(inputs, into: &results, context)
    }
  }

  private func runUpdating(
    _ context: Context, _ sources: [UnsafeMutableRawPointer?], _ targets: [UnsafeMutableRawPointer?]
  ) throws(DLCError) {
    try store.withLock { store throws(DLCError) in
      for position in isInPlace.indices where isInPlace[position] {
        try store.makeUnique(position, program.states[position])
      }
    }
    let (values, prepared) = try snapshot()
    let next = try store.withLock { store throws(DLCError) in
      var next = values
      for (position, port) in program.states.enumerated()
      where port.isUpdated && !isInPlace[position] {
        next[position] = try store.spare(position, port)
      }
      return next
    }
    context.run(sources, targets, values, next, prepared, constants)
    store.withLock { store in
      for (position, port) in program.states.enumerated()
      where port.isUpdated && !isInPlace[position] {
        store.spares[position] = store.values[position]
        store.values[position] = next[position]
      }
    }
  }

  /// The state now, and what preparation makes of it, computed once.
  private func snapshot() throws(DLCError) -> (values: [TensorStorage], prepared: TensorStorage) {
    try store.withLock { store throws(DLCError) in
      var values: [TensorStorage] = []
      for (port, value) in zip(program.states, store.values) {
        guard let value else {
          throw DLCError(
            .binding, "state '\(port.name)' has no value",
            remedy: "set it, or initialise it from a seed")
        }
        values.append(value)
      }
      if let prepared = store.prepared { return (values, prepared) }
      try program.requireMemory(
        program.preparedBytes, besides: program.scratchBytes * availableProcessors)
      let area = try Area(program.preparedBytes)
      let storage = TensorStorage(
        borrowing: UnsafeRawBufferPointer(start: area.base, count: area.size), owner: area)
      let context = try Context(
        self, program.preparation, [.run(0..<program.preparation.count)], arenaBytes: 0,
        workers: availableProcessors)
      context.run([], [], values, values, storage, constants)
      store.prepared = storage
      return (values, storage)
    }
  }

  private func workerCount(_ threads: Int?) throws(DLCError) -> Int {
    guard let threads else { return availableProcessors }
    guard threads >= 1, threads <= 1024 else {
      throw DLCError(.usage, "a run takes 1 to 1024 threads, not \(threads)")
    }
    return threads
  }

  /// Looks ahead at a first run: its memory, its results, and values of state that are still missing.
  /// - Parameter besides: further bytes that will be needed with it.
  /// - Throws: `.memory`, naming the largest values, when there is not enough for all of it.
  package func requireMemory(threads: Int? = nil, besides: Int) throws(DLCError) {
    let missing = Set(missingState)
    var extra = besides + program.scratchBytes * (try workerCount(threads))
    for port in outputs { extra += port.type.byteCount }
    for (port, type) in zip(program.states, states.map(\.type)) {
      if missing.contains(port.name) { extra += type.byteCount }
      if port.isUpdated { extra += type.byteCount }
    }
    try program.requireMemory(program.arenaBytes + program.preparedBytes, besides: extra)
  }

  /// - Parameter besides: bytes that the run needs outside its context, and does not have yet.
  private func takeContext(_ workers: Int, besides: Int = 0) throws(DLCError) -> Context {
    let known = contexts.withLock { list -> Context? in
      list.firstIndex { $0.workers == workers }.map { list.remove(at: $0) }
    }
    if let known { return known }
    var extra = besides + program.scratchBytes * workers
    for (port, isInPlace) in zip(program.states, isInPlace) where port.isUpdated && !isInPlace {
      extra += TensorType(port.type, sizes: port.shape).byteCount
    }
    try program.requireMemory(program.arenaBytes, besides: extra)
    return try newContext(workers)
  }

  private func newContext(_ workers: Int) throws(DLCError) -> Context {
    try Context(
      self, program.steps, program.instructions, arenaBytes: program.arenaBytes, workers: workers)
  }
}

extension Program {
  /// - Throws: `.memory`, naming the largest values, when there is not enough for an area of so many
  ///   bytes and what is needed besides.
  fileprivate func requireMemory(_ bytes: Int, besides: Int) throws(DLCError) {
    let needed = bytes + besides
    guard needed > 1 << 20 else { return }
    let left = AvailableMemory.bytes
    guard needed > left else { return }
    let largest = buffers.sorted { $0.byteCount > $1.byteCount }.prefix(3)
      .map { "\(TensorType($0.type, sizes: $0.shape)) (\($0.byteCount) bytes, \($0.place.text))" }
    throw AvailableMemory.shortage(
      needed, left, "a run; the largest values are \(largest.joined(separator: ", "))")
  }
}
