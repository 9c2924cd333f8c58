public import DLCGraph
public import DLCTensor

/// A model that the package ships.
public struct ZooModel: Sendable {
  /// The file's name below `Graphs/`, without `.pb`.
  public var name: String
  public var summary: String
  /// Whether its file is part of the package.
  package var isShipped = true
  package var make: @Sendable () throws(DLCError) -> Module

  /// Builds the model's graph.
  public func module(file: StaticString = #fileID, line: UInt = #line) throws(DLCError) -> Module {
    do throws(DLCError) {
      return try make()
    } catch {
      throw error.called(file, line)
    }
  }
}

/// All models that the package ships.
public enum Zoo {
  public static let models: [ZooModel] =
    Digits.models + Families.models + Examples.models + Equations.models + Measurements.models

  /// The models whose files are in `Graphs/`.
  public static var shipped: [ZooModel] { models.filter(\.isShipped) }

  public static func model(_ name: String) -> ZooModel? { models.first { $0.name == name } }
}
