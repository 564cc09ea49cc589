import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;

/** What tools that speak JDBC ask first. Usage: java -cp DRIVER.jar Metadata.java URL; a line per finding. */
public class Metadata {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0], "somebody", "")) {
            DatabaseMetaData metadata = connection.getMetaData();
            System.out.println("product " + metadata.getDatabaseProductName() + " " + metadata.getDatabaseMajorVersion());
            try (ResultSet schemas = metadata.getSchemas()) {
                while (schemas.next()) {
                    System.out.println("schema " + schemas.getString("TABLE_SCHEM"));
                }
            }
            String[] types = {"TABLE", "VIEW"};
            try (ResultSet tables = metadata.getTables(null, "public", "%", types)) {
                while (tables.next()) {
                    System.out.println("table " + tables.getString("TABLE_NAME") + ": " + tables.getString("REMARKS"));
                }
            }
            try (ResultSet columns = metadata.getColumns(null, "public", "sessions", "%")) {
                while (columns.next()) {
                    System.out.println("column " + columns.getInt("ORDINAL_POSITION") + " "
                        + columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
                }
            }
            try (ResultSet keys = metadata.getPrimaryKeys(null, "public", "sessions")) {
                System.out.println("keys " + keys.next());
            }
            String sql = "select count(*), max(started_at), min(entry_channel) from sessions where touch_count >= ?";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                // The driver goes over to prepared statements of the server, and then to binary answers.
                for (int time = 0; time < 8; time++) {
                    statement.setInt(1, 1);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        if (time == 7) {
                            System.out.println("count " + rows.getLong(1));
                            System.out.println("time " + (rows.getTimestamp(2) != null));
                        }
                    }
                }
            }
        }
    }
}
