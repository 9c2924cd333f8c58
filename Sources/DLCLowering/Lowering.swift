package import DLCGraph
package import DLCKernel
import DLCTensor

/// A kernel with what its parameters are bound to.
package struct KernelCall: Sendable {
  package enum Binding: Hashable, Sendable {
    case value(ValueID)
    case destination(Region.Destination)
    /// Memory between the kernels of one region, by number: packed operands.
    case temporary(Int)
  }
  package var kernel: Kernel
  package var bindings: [Binding]
  /// Pairs (input, output) of parameters that may share memory: each element is read before, and
  /// only by, the iteration that writes it.
  package var inPlace: [(input: Int, output: Int)]
}

/// What a region becomes: kernels in order, and the memory between them.
package struct LoweredRegion: Sendable {
  package var calls: [KernelCall]
  package var temporaries: [Local]

  /// Fills what the region's frame has beside what the last kernel stores, by tiles of the same kernel.
  mutating func fillFrame(of region: Region, _ structure: String, _ graph: Graph, _ target: Target)
  {
    guard let frame = region.frame,
      let fill = FillLowering.lower(frame, of: region, graph, target)
    else { return }
    let parts = [calls.removeLast(), fill]
    let (kernel, bindings) = Lowering.merged(
      parts.map { ($0.kernel, $0.bindings) }, structure, target)
    calls.append(KernelCall(kernel: kernel, bindings: bindings, inPlace: []))
  }
}

extension RegionEvaluator {
  /// An operand where it lies, or a view copied to where it lies in order.
  mutating func operand(
    _ value: ValueID, _ copy: RowSchedule?, _ target: Target, _ calls: inout [KernelCall],
    _ temporaries: inout [Local]
  ) -> Memory {
    guard let copy else { return parameter(.value(value), value) }
    let slot = KernelCall.Binding.temporary(temporaries.count)
    let local = Local(graph.type(value).dataType, max(graph.type(value).elementCount, 1))
    var call = Lowering.copy(value, copy, graph, target, to: slot)
    call.inPlace = []
    calls.append(call)
    temporaries.append(local)
    return parameter(slot, local.type, count: local.count)
  }
}

package enum Lowering {
  /// Lowers one region to loop nests. Total work in a tile is kept to some tens of microseconds.
  package static func lower(
    _ region: Region, _ schedule: RegionSchedule, _ graph: Graph, _ target: Target
  ) -> LoweredRegion {
    switch (region.kind, schedule) {
    case (.rows, .rows(let schedule)):
      return LoweredRegion(
        calls: [RowLowering.lower(region, schedule, graph, target)], temporaries: [])
    case (.contraction(let id), .contraction(let schedule)):
      return ContractionLowering.lower(region, id, schedule, graph, target)
    case (.convolution(let id), .convolution(let schedule)):
      return ConvolutionLowering.lower(region, id, schedule, graph, target)
    case (.attention(let attention), .attention(let schedule)):
      return AttentionLowering.lower(region, attention, schedule, graph, target)
    case (.assembly(let id), .assembly(let schedule)):
      return AssemblyLowering.lower(region, id, schedule, graph, target)
    case (.routine(let id), .routine(let schedule)):
      return RoutineLowering.lower(region, id, schedule, graph, target)
    // The graphs inside have plans of their own.
    case (.control, .control): return LoweredRegion(calls: [], temporaries: [])
    default: preconditionFailure("the schedule \(schedule.text) is not one for the region")
    }
  }

  /// One kernel that does the work of several which are independent of each other, and its arguments:
  /// what is passed to several of them is passed once.
  static func merged<Argument: Hashable>(
    _ parts: [(kernel: Kernel, arguments: [Argument])], _ structure: String, _ target: Target
  ) -> (kernel: Kernel, arguments: [Argument]) {
    var (arguments, parameters, places) = ([Argument](), [Parameter](), [[Int]]())
    for part in parts {
      places.append(
        zip(part.arguments, part.kernel.parameters).map { argument, parameter in
          for (index, known) in arguments.enumerated()
          where known == argument && parameters[index] == parameter { return index }
          arguments.append(argument)
          parameters.append(parameter)
          return arguments.count - 1
        })
    }
    let kernel = Kernel.merged(parts.map(\.kernel), parameters: parameters, places: places)
    let type = parameters.first { $0.isOutput }!.type
    return (named(kernel, structure, type, target), arguments)
  }

  /// A name that says what the kernel is, with a hash of what it does: equal names, equal kernels.
  static func named(_ kernel: Kernel, _ structure: String, _ type: DataType, _ target: Target)
    -> Kernel
  {
    var copy = kernel
    copy.name = ""
    copy.name = "dlc_\(type)_\(structure)_\(NameHash.of(copy.text))__\(target.isa)"
    return copy
  }

  /// Inputs that an output may overwrite: what a map, or a product's epilogue, reads exactly where it
  /// writes and nowhere else.
  static func sharable(_ region: Region, _ graph: Graph, _ evaluator: RegionEvaluator) -> [(
    input: Int, output: Int
  )] {
    let tracer = RequestTracer(graph, region)
    // Row by row, or element by element.
    var (coordinate, sizes) = (tracer.domainCoordinate, tracer.domain)
    var reduces = false
    if case .rows(_, let axes) = region.kind, !axes.isEmpty {
      (coordinate, sizes, reduces) = (tracer.rowCoordinate, tracer.rowSizes, true)
    }
    let areMaps = region.members.allSatisfy { id in
      switch region.kind {
      case .contraction(id), .convolution(id): return true
      default: break
      }
      switch graph.structure(graph[id]) {
      case .map: return true
      case .reduction: return reduces
      default: return false
      }
    }
    guard areMaps else { return [] }
    var pairs: [(Int, Int)] = []
    for (input, source) in evaluator.bindings.enumerated() {
      guard case .value(let value) = source else { continue }
      let isThere =
        reduces
        ? tracer.requests[value] == [coordinate] && graph.sizes(value) == sizes
        : tracer.coordinate(in: graph.sizes(value)).map { tracer.requests[value] == [$0] } ?? false
      if !isThere { continue }
      for (output, target) in evaluator.bindings.enumerated() {
        if case .destination(let destination) = target,
          reduces
            ? graph.sizes(destination.value) == sizes
            : tracer.coordinate(in: graph.sizes(destination.value)) != nil,
          graph.type(destination.value).dataType.byteCount == graph.type(value).dataType.byteCount
        {
          pairs.append((input, output))
        }
      }
    }
    return pairs
  }

  /// The region that copies a value, or what a view shows.
  static func copyRegion(_ value: ValueID, _ graph: Graph) -> Region {
    Region(
      .rows(domain: graph.sizes(value), axes: []), members: [],
      outputs: [Region.Destination(value: value, port: nil)])
  }

  /// Copies a value, or what a view shows, to where `binding` says.
  static func copy(
    _ value: ValueID, _ schedule: RowSchedule, _ graph: Graph, _ target: Target,
    to binding: KernelCall.Binding
  ) -> KernelCall {
    var call = RowLowering.lower(copyRegion(value, graph), schedule, graph, target)
    for index in call.bindings.indices {
      if case .destination = call.bindings[index] { call.bindings[index] = binding }
    }
    return call
  }

  static func bytes(_ parameters: [Parameter]) -> Int {
    parameters.reduce(0) { $0 + $1.count * $1.type.byteCount }
  }
}
