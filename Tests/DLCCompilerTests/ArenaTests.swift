import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import Foundation
import Testing

/// How close the arena comes to what no placement can do without.
@Suite struct ArenaTests {
  private static let graphs = URL(fileURLWithPath: DigitsTests.folder)

  private static func outlines(_ name: String) throws -> [Program] {
    let module = try Module(contentsOf: graphs.appendingPathComponent("\(name).pb").path)
    return try module.functions.map {
      try Compiler().outline(module, function: $0.name, dimensions: [:])
    }
  }

  @Test(arguments: [
    "digits_mlp", "digits_cnn", "examples/char_gpt", "models/cnn", "models/ffn", "models/gan",
    "models/gru", "models/vae", "equations/architectures/lstm",
  ]) func arenasAreNearTheLowerBound(_ name: String) throws {
    for program in try Self.outlines(name) {
      #expect(
        20 * program.arenaBytes <= 21 * program.arenaLowerBound,
        "\(name) \(program.function): \(program.arenaBytes) for \(program.arenaLowerBound)")
    }
  }

  /// What is known to be above: the halves of a coupling flow leave gaps. The limit is what it has today.
  @Test func theFlowIsAbove() throws {
    for program in try Self.outlines("models/flow") {
      #expect(5 * program.arenaBytes <= 6 * program.arenaLowerBound, "\(program.function)")
    }
  }

  /// The bound is the most bytes that are live in one event, counted here from places: buffers that are
  /// live together share bytes only where one hands its own to another.
  @Test(arguments: ["digits_cnn", "models/gru", "equations/generative/ebm"])
  func theBoundIsWhatLivesTogether(_ name: String) throws {
    for program in try Self.outlines(name) {
      let liveness = Liveness(program, StorageMap(program))
      var most = 0
      for event in liveness.events.indices {
        var places: Set<Range<Int>> = []
        for (id, range) in liveness.ranges where range.contains(event) {
          guard case .arena(let offset) = program[id].place else { continue }
          places.insert(offset..<offset + (program[id].byteCount + 63) / 64 * 64)
        }
        let sorted = places.sorted { $0.lowerBound < $1.lowerBound }
        for (low, high) in zip(sorted, sorted.dropFirst()) {
          #expect(low.upperBound <= high.lowerBound, "\(name) \(program.function) at \(event)")
        }
        most = max(most, sorted.reduce(0) { $0 + $1.count })
      }
      #expect(most == program.arenaLowerBound, "\(name) \(program.function)")
    }
  }

  @Test func programsAreShownWithTheirArena() throws {
    let path = ProgramTests.temporary() + ".dlc"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let report = try CommandLineTests.run("compile", CommandLineTests.graph, "-o", path).out
    let line = try #require(report.split(separator: "\n").first { $0.contains("  arena ") })
    #expect(line.contains(", lower bound ") && line.contains("(ratio 1."))
    let shown = try CommandLineTests.run("show", path).out
    #expect(
      shown.contains("\narena \(line.drop { $0 == " " }.dropFirst(5).drop { $0 == " " })\n"),
      "\(shown.prefix(300))")
  }
}
