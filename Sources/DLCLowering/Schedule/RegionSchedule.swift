package import DLCGraph
package import DLCKernel
import Foundation

/// Every decision that lowering takes for a region: a value that can be printed, compared, kept in a file
/// and read back. Lowering reads it and decides nothing.
package enum RegionSchedule: Hashable, Sendable {
  case rows(RowSchedule)
  case contraction(ContractionSchedule)
  case convolution(ConvolutionSchedule)
  case attention(AttentionSchedule)
  case assembly(AssemblySchedule)
  case routine(RoutineSchedule)
  /// A control node's graphs have schedules of their own.
  case control

  /// The kind and one line of JSON with its keys in order; `init(text:)` reads it.
  package var text: String {
    func json(_ value: some Encodable) -> String {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      // Numbers, words and lists: there is nothing that cannot be encoded.
      return String(decoding: try! encoder.encode(value), as: UTF8.self)
    }
    return switch self {
    case .rows(let s): "rows \(json(s))"
    case .contraction(let s): "contraction \(json(s))"
    case .convolution(let s): "convolution \(json(s))"
    case .attention(let s): "attention \(json(s))"
    case .assembly(let s): "assembly \(json(s))"
    case .routine(let s): "routine \(json(s))"
    case .control: "control"
    }
  }

  /// - Returns: nil for what is no schedule.
  package init?(text: String) {
    let parts = text.split(separator: " ", maxSplits: 1)
    func read<S: Decodable>(_: S.Type) -> S? {
      parts.count == 2 ? try? JSONDecoder().decode(S.self, from: Data(parts[1].utf8)) : nil
    }
    let schedule: RegionSchedule? =
      switch parts.first {
      case "rows": read(RowSchedule.self).map { .rows($0) }
      case "contraction": read(ContractionSchedule.self).map { .contraction($0) }
      case "convolution": read(ConvolutionSchedule.self).map { .convolution($0) }
      case "attention": read(AttentionSchedule.self).map { .attention($0) }
      case "assembly": read(AssemblySchedule.self).map { .assembly($0) }
      case "routine": read(RoutineSchedule.self).map { .routine($0) }
      default: nil
      }
    guard let schedule else { return nil }
    self = schedule
  }
}

/// A schedule that could be taken, with its price, or why it could not.
package struct Candidate<S: Sendable>: Sendable {
  package var schedule: S
  /// Cycles on one core.
  package var cycles: Double
  /// What it would break; nil for a legal one.
  package var obstacle: String?
}

extension Sequence {
  /// The cheapest of the legal ones; the first of several.
  func cheapest<S>() -> S? where Element == Candidate<S> {
    var best: Element?
    for candidate in self where candidate.obstacle == nil {
      if best.map({ candidate.cycles < $0.cycles }) ?? true { best = candidate }
    }
    return best?.schedule
  }
}

/// Vectors at a time of what follows for each element of a product: two where their instructions stay in registers, and
/// several where they are a chain, of which the chains of an element's gates already run side by side.
func vectorsOfEpilogue(_ cost: Int, gates: Int = 1) -> Int {
  cost <= 8 ? 2 : cost >= 16 ? max(1, 4 / max(gates, 1)) : 1
}

/// The greatest part of the whole that is within a limit when all parts are equal, rounded up to a multiple.
func evenBlock(_ total: Int, limit: Int, multiple: Int) -> Int {
  let parts = (total + limit - 1) / max(limit, 1)
  let even = (total + parts - 1) / max(parts, 1)
  return min((even + multiple - 1) / multiple * multiple, max(total, 1))
}
